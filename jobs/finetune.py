"""Finetune a BERT on labelled texts.

    python jobs/finetune.py --model.init_from runs/first --data.train reviews.csv --run runs/reviews

The same line again goes on where the run stopped.
"""

from raybert.settings import Settings
from raybert.settings.command_line import run_job


def finetune(settings: Settings) -> None:
    # Help and mistakes in the settings need no torch, whose import takes seconds.
    from raybert.finetuning.driver import finetune as run

    run(settings)


if __name__ == "__main__":
    run_job(
        finetune,
        description="Finetune a BERT: classification, regression, or tags of words.",
        sections=("run", "plan", "model", "data", "finetuning", "cluster"),
        required=("model.init_from", "data.train", "run"),
    )
