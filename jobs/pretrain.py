"""Pretrain a BERT on token shards.

    python jobs/pretrain.py --config jobs/configs/small.yaml --tokens data/tokens --run runs/first

The same line again goes on where the run stopped.
"""

from raybert.settings import Settings
from raybert.settings.command_line import run_job


def pretrain(settings: Settings) -> None:
    # Help and mistakes in the settings need no torch, whose import takes seconds.
    from raybert.training.driver import pretrain as run

    run(settings)


if __name__ == "__main__":
    run_job(
        pretrain,
        description="Pretrain a BERT: masked words and next sentences, on 1 to N workers.",
        sections=("tokens", "run", "plan", "model", "samples", "pretraining", "cluster"),
    )
