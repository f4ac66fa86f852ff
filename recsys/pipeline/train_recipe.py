"""Recipes for training the product encoder: from another model, with labels, or with a teacher.

In: options of the `train` command. Out: a `TrainingPlan`, a fingerprint of the recipe, tables for the result.
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
from recsys.encoder import serialization
from recsys.encoder.model import Model
from recsys.encoder.training import finetune
from recsys.encoder.training.distillation import distillation_plan, encoder_sizes
from recsys.encoder.training.finetune import ClassificationHeads
from recsys.encoder.training.plan import DEFAULT_PLAN, TrainingPlan
from recsys.encoder.training.transfer import Transfer
from recsys.errors import ConfigError, UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.result import Table
from recsys.store.input_tables import write_inputs
from recsys.types import FloatArray

CURRENT: Final = "current"
"""Option value that names the encoder in use."""
PREDICTION_COLUMNS: Final = ("product_id", "attribute", "value", "confidence", "model_version")


class TrainingRecipe:
    """Options of a training and everything derived from them; files and models are loaded lazily.

    Args:
        project: the project.
        labels: a file of labels to learn from.
        initial_model: folder of the model to start from, or `current`.
        distill: folder of the teacher, or `current`.
        epochs: passes over the products; None = as in [training].

    Raises:
        UsageError: two options exclude each other.
        ConfigError: the objective of an option has weight 0.
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
        self._labels, self._initial_model, self._distill, self._epochs = labels, initial_model, distill, epochs

    @property
    def is_default(self) -> bool:
        """Whether this is the default training, without any option."""
        return self._labels is None and self._initial_model is None and self._distill is None

    @property
    def option_text(self) -> str:
        """The options, for people; empty for the default training."""
        options = {
            "--labels": self._labels and self._labels.name,
            "--from": self._initial_model,
            "--distill": self._distill,
        }
        return " ".join(f"{option} {Path(text).name}" for option, text in options.items() if text is not None)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the options and of the models and labels they name; empty for the default training."""
        if self.is_default:
            return ""
        models = {"from": self._initial_model, "distill": self._distill}
        contents = {
            name: self._load_model(text).content_version for name, text in models.items() if text not in (None, CURRENT)
        }
        contents |= {name: CURRENT for name, text in models.items() if text == CURRENT}
        contents |= {"labels": self.label_data.labels.digest} if self._labels is not None else {}
        return blake2b(json.dumps(contents, sort_keys=True).encode(), digest_size=4).hexdigest()

    @cached_property
    def label_data(self) -> labels.LabelReadResult:
        """The labels; rejected rows are written to the store."""
        assert self._labels is not None
        project = self._project
        result = labels.read(self._labels, project.dataset.catalogue.ids, settings=project.settings.data)
        write_inputs(project.store, {}, result.rejected, sources=[result.source])
        return result

    @cached_property
    def transfer(self) -> Transfer | None:
        """The initial model: the named one; with labels and without a name the one in use, if there is one."""
        name = self._initial_model
        if (
            name is None
            and self._labels is not None
            and (self._project.models_folder / "encoder" / "CURRENT").is_file()
        ):
            name = CURRENT
        return None if name is None else Transfer(self._load_model(name), self._project.settings.encoder)

    @cached_property
    def teacher(self) -> Model | None:
        """The teacher model."""
        return None if self._distill is None else self._load_model(self._distill)

    @cached_property
    def heads(self) -> ClassificationHeads:
        """Classification heads for the labels, trained together with the encoder."""
        return ClassificationHeads.from_labels(self.label_data.labels, self._project.settings.encoder.dim)

    @cached_property
    def plan(self) -> TrainingPlan:
        """The plan of the training.

        Raises:
            ModelFolderError: a model is missing, damaged, or of other sizes.
        """
        objectives, training = self._project.settings.objectives, self._project.settings.training
        plan = self.transfer.training_plan() if self.transfer else DEFAULT_PLAN
        if self.teacher is not None:
            plan = distillation_plan(self.teacher, self._project.dataset.catalogue, weight=objectives.teacher)
        if self._labels is not None:
            plan = finetune.finetuning_plan(self.heads, self.label_data.labels, plan, weight=objectives.labels)
        if self._labels is not None and self.transfer is not None:
            plan = plan.with_schedule(epochs=training.label_epochs, learning_rate=training.label_learning_rate)
        return plan.with_schedule(epochs=self._epochs) if self._epochs else plan

    def _load_model(self, text: str) -> Model:
        """Load a model by the folder of one version, by the folder of all versions, or by `current`.

        Raises:
            UsageError: there is no such folder.
            ModelFolderError: it is not a complete model folder.
        """
        if text == CURRENT:
            return self._project.model
        folder = Path(text)
        if not folder.is_dir():
            raise UsageError(
                f"no such model folder: {text}; name one such as artifacts/models/encoder/VERSION, or '{CURRENT}'"
            )
        has_versions = (folder / "CURRENT").is_file()
        return serialization.load(current_version(folder.parent, folder.name) if has_versions else folder)

    def predictions(self, model: Model, vectors: FloatArray) -> pl.DataFrame | None:
        """Predict the labels of all unlabelled products, columns PREDICTION_COLUMNS; None without labels."""
        if self._labels is None:
            return None
        catalogue = self._project.dataset.catalogue
        predicted = finetune.predict_labels(model, catalogue, self.heads, vectors=vectors)
        unlabelled = finetune.filter_unlabelled(predicted, self.label_data.labels)
        return unlabelled.with_columns(pl.lit(model.content_version).alias(PREDICTION_COLUMNS[-1])).select(
            PREDICTION_COLUMNS
        )

    def counts(self) -> dict[str, Any]:
        """Return the row counts of the labels."""
        return {"labels": dict(self.label_data.counts)} if self._labels is not None else {}

    def warnings(self) -> list[str]:
        """Return warnings about the labels."""
        return list(self.label_data.warnings) if self._labels is not None else []

    def notes(self) -> list[str]:
        """Return notes for people."""
        if self._labels is None or self.transfer is not None:
            return []
        return ["there was no encoder to go on from, so this one was trained from the beginning, labels and all"]

    def tables(self, model: Model, predicted: pl.DataFrame | None) -> list[Table]:
        """Return tables of transferred weights, learned and predicted labels, and encoder sizes."""
        tables = []
        if self.transfer is not None and self.transfer.report:
            rows = [(part.part, part.unit, part.copied, part.total) for part in self.transfer.report]
            tables.append(Table("taken over", ("part", "unit", "taken", "of"), rows))
        if predicted is not None:
            tables.append(
                Table("labels", ("label", "values", "labelled", "guessed", "confidence"), self._label_rows(predicted))
            )
        if self.teacher is not None:
            columns = ("encoder", "dim", "width", "text_layers", "fusion_layers", "weights")
            sizes = [("teacher", *encoder_sizes(self.teacher)), ("student", *encoder_sizes(model))]
            tables.append(Table("sizes", columns, sizes))
        return tables

    def _label_rows(self, predicted: pl.DataFrame) -> list[tuple[Any, ...]]:
        """One row per label: values, labelled products, predicted products, mean confidence of the predictions."""
        data = self.label_data.labels
        rows = []
        for i, (name, values) in enumerate(zip(data.names, data.values, strict=True)):
            confidence = predicted.filter(pl.col(schema.ATTRIBUTE) == name)[finetune.CONFIDENCE]
            mean = round(float(confidence.sum()) / len(confidence), 4) if len(confidence) else None
            rows.append((name, len(values), int((data.targets[:, i] >= 0).sum()), len(confidence), mean))
        return rows
