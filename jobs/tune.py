"""Search for the settings that finetune a BERT best.

    python jobs/tune.py --config jobs/configs/search.yaml --model.init_from runs/first \
        --data.train reviews.csv --data.test held_out.csv --run runs/search

The same line again goes on where the sweep stopped. The space to search is in the file of --config.
"""

from raybert.settings import Settings
from raybert.settings.command_line import run_job


def tune(settings: Settings) -> None:
    # Help and mistakes in the settings need no torch, whose import takes seconds.
    from raybert.tuning.driver import tune as run

    run(settings)


if __name__ == "__main__":
    run_job(
        tune,
        description="Search over the settings of finetuning with Ray Tune.",
        sections=("run", "plan", "model", "data", "finetuning", "tuning", "cluster"),
    )
