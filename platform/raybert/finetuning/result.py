"""What a finished run leaves: its figures, outputs, report, and the model as a folder.

result.json             best step and figures; written last, so a run that has it is finished
report.md               for people
outputs.safetensors     logits (or numbers) of the validation and test rows
export/                 for transformers' AutoModelFor…Classification
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from safetensors.torch import save
from torch import Tensor

from raybert.finetuning.evaluation import Predictions
from raybert.finetuning.facts import Facts
from raybert.finetuning.history import Evaluation, History
from raybert.finetuning.report import run_report
from raybert.finetuning.statistics import bootstrap
from raybert.settings import Settings
from raybert.storage import Location, write_file
from raybert.training.export import FOLDER as EXPORT
from raybert.training.export import write_export

RESULT = "result.json"
REPORT = "report.md"
OUTPUTS = "outputs.safetensors"


@dataclass(frozen=True)
class Result:
    """The figures of a finished run.

    Attributes:
        seed: of the run.
        best_step: of the best version.
        metric: that it was chosen by.
        validation: its metrics on the validation rows.
        test: on the test rows; None where there are none.
        low, high: 95 % bootstrap interval of the metric on the validation rows.
    """

    seed: int
    best_step: int
    metric: str
    validation: Mapping[str, float]
    test: Mapping[str, float] | None
    low: float
    high: float

    @property
    def value(self) -> float:
        """The chosen metric on the validation rows."""
        return self.validation[self.metric]


def read_result(run: Location) -> Result | None:
    """The result of a finished run; None of one that is not finished."""
    file = run / RESULT
    if not file.is_file():
        return None
    return Result(**_with_nan(json.loads(file.read_bytes())))


def write_result(
    run: Location,
    settings: Settings,
    facts: Facts,
    history: History,
    best: Evaluation,
    validation: Predictions,
    test: Predictions | None,
    weights: Mapping[str, Tensor],
    files: Mapping[str, bytes],
) -> Result:
    """Writes everything that a finished run leaves.

    Args:
        validation, test: of the best version.
        weights: of the best version, by Hugging Face's names.
        files: of `raybert.training.export.huggingface_files`.
    """
    metric = history.metric
    interval = bootstrap(facts.task, metric, [validation.outputs])
    outputs = {"validation": validation.outputs_UC}
    if test is not None:
        outputs["test"] = test.outputs_UC
    write_file(run / OUTPUTS, save(outputs))
    result = Result(
        settings.finetuning.seed,
        best.step,
        metric,
        validation.metrics,
        None if test is None else test.metrics,
        interval.low,
        interval.high,
    )
    card = _card(run.name, facts, result, settings)
    write_export(run / EXPORT, weights, files, card)
    report = run_report(run.name, settings, facts, history, validation, test, interval)
    write_file(run / REPORT, report.encode())
    write_file(run / RESULT, json_bytes(asdict(result)))
    return result


def _card(name: str, facts: Facts, result: Result, settings: Settings) -> str:
    kind = "Token" if facts.task == "tokens" else "Sequence"
    pipeline = "token-classification" if facts.task == "tokens" else "text-classification"
    figures = [f"| {k} | {v:.4g} |" for k, v in result.validation.items()]
    labels = f"- labels: {', '.join(facts.label_names[:50])}" if facts.label_names else ""
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {pipeline}",
        "tags: [bert, raybert]",
        "---",
        f"# {name}",
        "",
        f"A BERT (Devlin et al. 2018) finetuned with raybert for {facts.task.replace('_', ' ')} "
        f"from `{settings.model.init_from}`.",
        "",
        f"- training rows: {facts.splits['train'].num_rows:,}",
        f"- texts are cut to {facts.max_length} tokens",
        labels,
        "",
        f"| validation metric, {facts.splits['validation'].num_rows:,} rows | value |",
        "|---|---|",
        *figures,
        "",
        "```python",
        f"from transformers import AutoModelFor{kind}Classification, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        f'model = AutoModelFor{kind}Classification.from_pretrained("path/to/this/folder")',
        "```",
        "",
    ]
    return "\n".join(lines)


def json_bytes(content: dict[str, Any]) -> bytes:
    """JSON, with null for what is not a number."""
    return json.dumps(_without_nan(content), indent=1).encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(stored: dict[str, Any]) -> dict[str, Any]:
    for name in ("validation", "test"):
        if stored[name] is not None:
            stored[name] = {k: math.nan if v is None else v for k, v in stored[name].items()}
    for name in ("low", "high"):
        stored[name] = math.nan if stored[name] is None else stored[name]
    return stored
