"""Predictions or embeddings for files of texts.

    python jobs/predict.py --model.path runs/reviews --input.paths 'data/*.csv' \\
        --output predictions --prediction.kind labels

OUTPUT gets parquet files: the rows in their order, with their other columns and the predictions. A
job that was killed is run again with the same line: it does what is missing.
"""

from raybert.settings import Settings
from raybert.settings.command_line import run_job


def predict(settings: Settings) -> None:
    # Help and mistakes in the settings need no torch, whose import takes seconds.
    from raybert.inference.jobs import predict_job

    predict_job(settings)


if __name__ == "__main__":
    run_job(
        predict,
        description="Predict labels, embeddings or masked words for files of texts.",
        sections=("output", "model", "input", "prediction", "cluster"),
        required=("model.path", "input.paths", "output"),
    )
