"""The ways of training the product encoder besides the plain one: from another model, with few labels, with a teacher.

In: what a command names. Out: a `TrainingPlan` for the training, a key that tells it from others, tables for the report.
"""

from __future__ import annotations

import json
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import polars as pl

from recsys.artifacts.model_folder import current_version
from recsys.data import labels, schema
from recsys.encoder import serialization as checkpoint
from recsys.encoder.model import Model
from recsys.encoder.training import distillation as distill
from recsys.encoder.training import finetune
from recsys.encoder.training.finetune import ClassificationHeads
from recsys.encoder.training.plan import DEFAULT_PLAN, TrainingPlan
from recsys.encoder.training.transfer import Transfer
from recsys.errors import ConfigError, UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.result import Table
from recsys.store.input_tables import write_inputs
from recsys.types import FloatArray

CURRENT: Final = "current"
"""Names the encoder in use."""
PREDICTIONS: Final = ("product_id", "attribute", "value", "confidence", "model_version")


class TrainingRecipe:
    """What is asked for, and what comes of it; nothing is read before it is needed.

    Args:
        project: the project.
        labels: a file of labels to learn from.
        start: folder of the model to start from, or `current`.
        distill: folder of the model to be like, or `current`.
        passes: over the products; None = as set.

    Raises:
        UsageError: two things that exclude each other.
        ConfigError: what is asked for has no weight.
    """

    def __init__(
        self,
        project: Project,
        *,
        labels: Path | None = None,
        initial_model: str | None = None,
        distill: str | None = None,
        epochs: int | None = None,
    ) -> None:
        if distill is not None and initial_model is not None:
            raise UsageError("--distill trains a new encoder beside its teacher, which starts from chance: no --from")
        if distill is not None and labels is not None:
            raise UsageError("--distill and --labels are two trainings: first train --distill, then train --labels")
        weights = project.settings.objectives
        if labels is not None and not weights.labels:
            raise ConfigError("[objectives] labels = 0 leaves the labels out; set it above 0, or leave --labels out")
        if distill is not None and not weights.teacher:
            raise ConfigError("[objectives] teacher = 0 leaves the teacher out; set it above 0, or leave --distill out")
        self._project = project
        self._labels, self._start, self._distill, self._passes = labels, initial_model, distill, epochs

    @property
    def is_default(self) -> bool:
        """Whether nothing is asked for besides an ordinary training."""
        return self._labels is None and self._start is None and self._distill is None

    @property
    def option_text(self) -> str:
        """The options for people; empty for an ordinary training."""
        given = {"--labels": self._labels and self._labels.name, "--from": self._start, "--distill": self._distill}
        return " ".join(f"{option} {Path(text).name}" for option, text in given.items() if text is not None)

    @cached_property
    def fingerprint(self) -> str:
        """Tells this way from others by what was asked for; empty for an ordinary training."""
        if self.is_default:
            return ""
        named = {"from": self._start, "distill": self._distill}
        asked = {name: self._named(text).content_version for name, text in named.items() if text not in (None, CURRENT)}
        asked |= {name: CURRENT for name, text in named.items() if text == CURRENT}
        asked |= {"labels": self.reading.labels.digest} if self._labels is not None else {}
        return blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=4).hexdigest()

    @cached_property
    def reading(self) -> labels.LabelReadResult:
        """The labels; what is rejected among them is kept in the store."""
        assert self._labels is not None
        project = self._project
        found = labels.read(self._labels, project.dataset.catalogue.ids, settings=project.settings.data)
        write_inputs(project.store, {}, found.rejected, sources=[found.source])
        return found

    @cached_property
    def transfer(self) -> Transfer | None:
        """Where the training starts from: the model that is named; with labels else the one in use, if there is one."""
        start = self._start
        if (
            start is None
            and self._labels is not None
            and (self._project.models_folder / "encoder" / "CURRENT").is_file()
        ):
            start = CURRENT
        return None if start is None else Transfer(self._named(start), self._project.settings.encoder)

    @cached_property
    def teacher(self) -> Model | None:
        """The model to be like."""
        return None if self._distill is None else self._named(self._distill)

    @cached_property
    def heads(self) -> ClassificationHeads:
        """What guesses the labels, trained along."""
        return ClassificationHeads.of(self.reading.labels, self._project.settings.encoder.dim)

    @cached_property
    def plan(self) -> TrainingPlan:
        """The course of the training.

        Raises:
            ModelFolderError: a model is missing, damaged, or of other sizes.
        """
        objectives, training = self._project.settings.objectives, self._project.settings.training
        course = self.transfer.course() if self.transfer else DEFAULT_PLAN
        if self.teacher is not None:
            course = distill.distillation_plan(self.teacher, self._project.dataset.catalogue, weight=objectives.teacher)
        if self._labels is not None:
            course = finetune.finetuning_plan(self.heads, self.reading.labels, course, weight=objectives.labels)
        if self._labels is not None and self.transfer is not None:
            course = course.with_schedule(passes=training.label_epochs, peak=training.label_learning_rate)
        return course.with_schedule(passes=self._passes) if self._passes else course

    def _named(self, text: str) -> Model:
        """The model of a folder, of a version or of the one in use among several.

        Raises:
            UsageError: there is no such folder.
            ModelFolderError: it is no complete model folder.
        """
        if text == CURRENT:
            return self._project.model
        folder = Path(text)
        if not folder.is_dir():
            raise UsageError(
                f"no such model folder: {text}; name one such as artifacts/models/encoder/VERSION, or '{CURRENT}'"
            )
        named = (folder / "CURRENT").is_file()
        return checkpoint.load(current_version(folder.parent, folder.name) if named else folder)

    def predictions(self, model: Model, vectors: FloatArray) -> pl.DataFrame | None:
        """The labels of all products nobody labelled, columns PREDICTIONS; None when no labels were given."""
        if self._labels is None:
            return None
        catalogue = self._project.dataset.catalogue
        every = finetune.predict(model, catalogue, self.heads, vectors=vectors)
        left = finetune.filter_unlabelled(every, self.reading.labels)
        return left.with_columns(pl.lit(model.content_version).alias(PREDICTIONS[-1])).select(PREDICTIONS)

    def counts(self) -> dict[str, Any]:
        """Rows of the labels."""
        return {"labels": dict(self.reading.counts)} if self._labels is not None else {}

    def warnings(self) -> list[str]:
        """What is wrong with the labels."""
        return list(self.reading.warnings) if self._labels is not None else []

    def notes(self) -> list[str]:
        """What a person should know."""
        if self._labels is None or self.transfer is not None:
            return []
        return ["there was no encoder to go on from, so this one was trained from the beginning, labels and all"]

    def tables(self, model: Model, predicted: pl.DataFrame | None) -> list[Table]:
        """What was taken over, learnt and guessed, and how large the encoders are."""
        out = []
        if self.transfer is not None and self.transfer.taken:
            rows = [(each.part, each.unit, each.taken, each.of) for each in self.transfer.taken]
            out.append(Table("taken over", ("part", "unit", "taken", "of"), rows))
        if predicted is not None:
            out.append(
                Table("labels", ("label", "values", "labelled", "guessed", "confidence"), self._learnt(predicted))
            )
        if self.teacher is not None:
            columns = ("encoder", "dim", "width", "text_layers", "fusion_layers", "weights")
            sizes = [("teacher", *distill.encoder_sizes(self.teacher)), ("student", *distill.encoder_sizes(model))]
            out.append(Table("sizes", columns, sizes))
        return out

    def _learnt(self, predicted: pl.DataFrame) -> list[tuple[Any, ...]]:
        """Of each label: its values, products labelled, products guessed, mean confidence of the guesses."""
        held = self.reading.labels
        rows = []
        for at, (name, known) in enumerate(zip(held.names, held.values, strict=True)):
            guesses = predicted.filter(pl.col(schema.ATTRIBUTE) == name)[finetune.CONFIDENCE]
            sure = round(float(guesses.sum()) / len(guesses), 4) if len(guesses) else None
            rows.append((name, len(known), int((held.targets[:, at] >= 0).sum()), len(guesses), sure))
        return rows
