"""One finetuning by us and by `transformers`' Trainer: same model folder, rows, settings and work.

Both start from the folder's weights, train with the same batch size, epochs, schedule, clipping
and weight decay in this process on the same threads, evaluate the validation rows after each epoch,
save a checkpoint with optimizer state there, and score the best version by accuracy on the test
rows. Theirs pads each batch to its longest row and groups rows by length. Tokenization, done once
per task, is not counted on either side; loading the model is on both.
"""

from __future__ import annotations

import csv
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from raybert.finetuning.data import prepare_data
from raybert.finetuning.trainer import FinetuningTrainer
from raybert.settings import DataSettings, FinetuningSettings, ModelSettings, Settings


@dataclass(frozen=True)
class Example:
    """A labelled text."""

    text: str
    label: str


@dataclass(frozen=True)
class Task:
    """Rows of a task, split once; no two rows have the same text.

    Attributes:
        name: for the table.
        train, validation, test: disjoint.
    """

    name: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    @classmethod
    def drawn(
        cls, name: str, examples: Sequence[Example], train: int, validation: int, test: int
    ) -> Task:
        """Rows drawn evenly, the same on every call."""
        distinct = list({example.text: example for example in examples}.values())
        distinct.sort(key=lambda example: example.text)
        random.Random(0).shuffle(distinct)
        if len(distinct) < train + validation + test:
            raise SystemExit(f"{name} has {len(distinct)} rows; fewer rows, please")
        first, second = train, train + validation
        rows = (distinct[:first], distinct[first:second], distinct[second : second + test])
        return cls(name, *map(tuple, rows))

    @property
    def majority(self) -> float:
        """Test accuracy of the commonest training label."""
        labels = [example.label for example in self.train]
        commonest = max(sorted(set(labels)), key=labels.count)
        return float(np.mean([example.label == commonest for example in self.test]))


@dataclass(frozen=True)
class Recipe:
    """What both sides are told."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    max_length: int = 128


@dataclass(frozen=True)
class Scored:
    """How one run went.

    Attributes:
        accuracy: on the test rows.
        seconds: of everything counted.
    """

    accuracy: float
    seconds: float


class Ours:
    """raybert's trainer, in this process, without Ray."""

    def __init__(self, model: Path, task: Task, recipe: Recipe, folder: Path) -> None:
        files = {split: folder / f"{split}.csv" for split in ("train", "validation", "test")}
        for split, file in files.items():
            _write_csv(file, getattr(task, split))
        self._settings = Settings(
            model=ModelSettings(init_from=str(model)),
            data=DataSettings(
                **{split: str(file) for split, file in files.items()},
                task="classification",
                max_length=recipe.max_length,
                cache=str(folder / "cache"),
            ),
            finetuning=FinetuningSettings(
                epochs=recipe.epochs,
                batch_size=recipe.batch_size,
                learning_rate=recipe.learning_rate,
                warmup_share=recipe.warmup_share,
                weight_decay=recipe.weight_decay,
                metric="accuracy",
                precision="fp32",
            ),
        )
        self._data = prepare_data(self._settings)

    def run(self, seed: int, folder: Path) -> Scored:
        changes = {"finetuning": self._settings.finetuning.model_copy(update={"seed": seed})}
        begin = time.perf_counter()
        settings = self._settings.model_copy(update=changes)
        cpu = torch.device("cpu")
        trainer = FinetuningTrainer(settings, self._data, str(folder), device=cpu)
        trainer.train()
        trainer.use_best()
        accuracy = trainer.predict("test").metrics["accuracy"]
        return Scored(accuracy, time.perf_counter() - begin)


class Theirs:
    """transformers' Trainer with dynamic padding and rows grouped by length."""

    def __init__(self, model: Path, task: Task, recipe: Recipe) -> None:
        self._model, self._recipe = model, recipe
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        self._names = sorted({example.label for example in task.train})
        self._rows = {
            split: self._encoded(getattr(task, split)) for split in ("train", "validation", "test")
        }

    def _encoded(self, examples: Sequence[Example]) -> list[dict[str, object]]:
        texts = [example.text for example in examples]
        found = self._tokenizer(
            texts, truncation=True, max_length=self._recipe.max_length, padding=False
        )
        return [
            {
                "input_ids": found["input_ids"][i],
                "token_type_ids": [0] * len(found["input_ids"][i]),
                "attention_mask": found["attention_mask"][i],
                "labels": self._names.index(example.label),
            }
            for i, example in enumerate(examples)
        ]

    def run(self, seed: int, folder: Path) -> Scored:
        recipe = self._recipe
        begin = time.perf_counter()
        transformers.set_seed(seed)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            self._model, num_labels=len(self._names), attn_implementation="sdpa"
        )
        steps = -(-len(self._rows["train"]) // recipe.batch_size) * recipe.epochs
        trainer = transformers.Trainer(
            model,
            transformers.TrainingArguments(
                output_dir=str(folder),
                num_train_epochs=recipe.epochs,
                per_device_train_batch_size=recipe.batch_size,
                per_device_eval_batch_size=64,
                learning_rate=recipe.learning_rate,
                warmup_steps=math.ceil(recipe.warmup_share * steps),
                weight_decay=recipe.weight_decay,
                adam_epsilon=1e-6,
                max_grad_norm=1.0,
                lr_scheduler_type="linear",
                train_sampling_strategy="group_by_length",
                eval_strategy="epoch",
                save_strategy="epoch",
                save_total_limit=1,
                load_best_model_at_end=True,
                metric_for_best_model="accuracy",
                seed=seed,
                use_cpu=True,
                dataloader_pin_memory=False,
                logging_steps=10,
                disable_tqdm=True,
                report_to="none",
            ),
            data_collator=transformers.DataCollatorWithPadding(self._tokenizer),
            train_dataset=self._rows["train"],  # pyright: ignore[reportArgumentType]
            eval_dataset=self._rows["validation"],  # pyright: ignore[reportArgumentType]
            compute_metrics=_accuracy,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        found = trainer.evaluate(self._rows["test"])  # pyright: ignore[reportArgumentType]
        return Scored(found["eval_accuracy"], time.perf_counter() - begin)


def _accuracy(predictions: transformers.EvalPrediction) -> dict[str, float]:
    guesses = np.asarray(predictions.predictions).argmax(axis=1)
    return {"accuracy": float((guesses == predictions.label_ids).mean())}


def _write_csv(file: Path, examples: Sequence[Example]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("text", "label"))
        writer.writerows((example.text, example.label) for example in examples)
