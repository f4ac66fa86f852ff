"""The `train` command: trains the encoder, the ranker, or both, and puts them into use.

In: an open project. Out: model folders `encoder/<version>` and `ranker/<version>`, and the state they were trained in.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recsys.data.dataset import Dataset
from recsys.encoder import serialization
from recsys.encoder.training import distributed
from recsys.errors import DataContractError, UsageError
from recsys.execution.torchrun import is_helper, world_size
from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.train_job import TrainingJob
from recsys.pipeline.train_recipe import TrainingRecipe
from recsys.pipeline.train_state import TrainingState
from recsys.recommend.ranking.checkpoint import save_ranker
from recsys.store import predicted_attributes

logger = logging.getLogger(__name__)

PARTS = ("encoder", "ranker")
_MAX_KEPT_LOGS = 3
"""Earlier trainings whose metrics stay."""


def train(
    project: Project, *, parts: Sequence[str] = PARTS, resume: bool = False, recipe: TrainingRecipe | None = None
) -> CommandResult:
    """Train the encoder, fit the ranker, or both, and put them into use.

    Under torchrun the first process does all of it and the others only help to train the product encoder.

    Args:
        project: the project.
        parts: "encoder", "ranker" or both.
        resume: resume a stopped training of the same data and settings.
        recipe: initial model, labels or teacher; None = the default training.

    Raises:
        DataContractError: there is nothing to learn from.
        UsageError: there is nothing to resume, or a recipe is given for the ranker alone.
        ModelFolderError: the ranker alone is trained and there is no encoder; or the initial model does not fit.
        InterruptedRunError: a signal came; a checkpoint has been written.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UsageError(f"unknown part '{unknown[0]}'; train {' or '.join(PARTS)}")
    recipe = recipe or TrainingRecipe(project)
    if not recipe.is_default and "encoder" not in parts:
        raise UsageError(f"{recipe.option_text} trains the encoder; leave 'ranker' out, which is fitted after it")
    if not recipe.is_default and world_size() > 1:
        raise UsageError(f"{recipe.option_text} trains in one process; start it without torchrun")
    if is_helper():
        return _join_distributed_training(project, parts=parts, resume=resume)
    dataset = project.dataset
    require_training_data(dataset)
    job = create_job(project, resume=resume, recipe=recipe)
    remaining = _remaining_parts(project, job, recipe, parts) if resume else tuple(parts)
    if "encoder" in remaining:
        job = replace(job, plan=recipe.plan)  # a model that does not fit is refused before anything is removed
        _warn_replaced_recipe(project, recipe)
    _remove_other_trainings(job.folder)
    artifacts: dict[str, Path] = {}
    tables: list[Table] = []
    if "encoder" in remaining:
        model, table = job.train_encoder()
        predicted = recipe.predictions(model, table.vectors)
        tables = recipe.tables(model, predicted)
        seed = project.settings.training.seed
        artifacts["encoder"] = serialization.save(
            model, project.models_folder / "encoder", data_fingerprint=dataset.fingerprint, seed=seed
        )
        if predicted is not None:
            with project.store.engine.begin() as connection:
                predicted_attributes.replace_predictions(
                    connection, project.store.dialect, predicted, attributes=predicted["attribute"].unique()
                )
        table.save(project.embeddings_folder)  # computed by the model just saved, so `embed` need not repeat it
        TrainingState.capture(
            project,
            dataset,
            encoder=model.version,
            ranker="",
            recipe=recipe.fingerprint,
            description=recipe.option_text,
        ).save(project.models_folder)
        project.reload_models()
        job.clean_up()
    elif "encoder" in parts:
        with distributed.process_group(project.settings.training.device):
            distributed.broadcast(0)
    if "ranker" in remaining:
        artifacts["ranker"] = save_ranker(
            job.fit_ranker(project.model, update_embeddings(project).table.vectors),
            project.models_folder / "ranker",
            encoder_version=project.model.version,
            data_fingerprint=dataset.fingerprint,
            seed=project.settings.training.seed,
        )
        state = TrainingState.load(project.models_folder)
        current = state if state and state.encoder == project.model.version else None
        TrainingState.capture(
            project,
            dataset,
            encoder=project.model.version,
            ranker=artifacts["ranker"].name,
            recipe=current.way if current else "",
            description=current.said if current else "",
        ).save(project.models_folder)
        project.reload_models()
        job.clean_up()
    counts = {"products": len(dataset.catalogue), "users": len(dataset.users), "events": len(dataset.interactions)}
    return CommandResult(
        "train",
        counts={**counts, **recipe.counts()},
        warnings=recipe.warnings(),
        artifacts=artifacts,
        tables=[*tables, project.stage_table()],
        notes=recipe.notes() if tables else [],
    )


def _join_distributed_training(project: Project, *, parts: Sequence[str], resume: bool) -> CommandResult:
    """Help to train the product encoder, in every torchrun process but the first.

    The data is read only after the first process has read it and announced that there is something to train.
    """
    if "encoder" in parts:
        with distributed.process_group(project.settings.training.device):
            if distributed.broadcast(1):
                create_job(project, resume=resume).train_product_encoder()
    return CommandResult("train")


def create_job(project: Project, *, resume: bool, recipe: TrainingRecipe | None = None) -> TrainingJob:
    """Create the training job for current data, settings and recipe; its folder is named by all three."""
    dataset = project.dataset
    name = "-".join(
        [
            project.model_settings_hash(),
            dataset.fingerprint,
            *([recipe.fingerprint] if recipe and recipe.fingerprint else []),
        ]
    )
    folder = project.settings.artifacts / "training" / name
    return TrainingJob(project, dataset.catalogue, dataset.interactions, folder, resume=resume)


def _warn_replaced_recipe(project: Project, recipe: TrainingRecipe) -> None:
    """Warn when a default training replaces one with labels, a teacher or an initial model."""
    state = TrainingState.load(project.models_folder)
    if state is not None and state.way and recipe.is_default:
        logger.warning(
            "the encoder in use was trained with %s; the new one is not: give the options again to have it so",
            state.said,
        )


def _remaining_parts(
    project: Project, job: TrainingJob, recipe: TrainingRecipe, parts: Sequence[str]
) -> tuple[str, ...]:
    """Return the parts a stopped training must still train: the ranker alone if the encoder was saved."""
    state, dataset = TrainingState.load(project.models_folder), project.dataset
    current = (project.model_settings_hash(), dataset.fingerprint, recipe.fingerprint)
    same = state is not None and (state.model_hash, state.fingerprint, state.way) == current
    if state is not None and same and not state.ranker and "ranker" in parts:
        return ("ranker",)
    if not job.has_checkpoint:
        options = f" with {recipe.option_text}" if recipe.option_text else ""
        raise UsageError(
            f"there is no stopped training of this data and these settings{options} to go on with; "
            "train without --resume"
        )
    return tuple(parts)


def _remove_other_trainings(folder: Path) -> None:
    """Remove the folders of trainings of other data or settings, except the logs of the last few."""
    if not folder.parent.exists():
        return
    others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for i, other in enumerate(others):
        for path in other.glob("*/*.safetensors"):
            path.unlink()
        shutil.rmtree(other / "vectors" if i < _MAX_KEPT_LOGS else other, ignore_errors=True)


def require_training_data(dataset: Dataset) -> None:
    """Check that there are products and events to learn from.

    Raises:
        DataContractError: there is no product, or no event.
    """
    if not len(dataset.catalogue):
        raise DataContractError("the catalogue is empty: the store holds no product; run 'recsys ingest' with products")
    if not len(dataset.interactions):
        raise DataContractError("the store holds no events; run 'recsys ingest' with events such as purchases")
