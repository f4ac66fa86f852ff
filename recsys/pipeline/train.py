"""Training the models in use: the encoder, the ranker, or both.

In: an open project. Out: model folders `encoder/<version>` and `ranker/<version>`, and a note of what they were trained on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recsys.data.dataset import Dataset
from recsys.encoder import serialization as checkpoint
from recsys.encoder.training import distributed
from recsys.errors import DataContractError, UsageError
from recsys.execution import torchrun as crew
from recsys.pipeline.embed import update_embeddings
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.train_job import TrainingJob
from recsys.pipeline.train_recipe import TrainingRecipe
from recsys.pipeline.train_state import TrainingState
from recsys.recommend.ranking import checkpoint as rankers
from recsys.store import predicted_attributes as predictions

logger = logging.getLogger(__name__)

PARTS = ("encoder", "ranker")
_LOGS_KEPT = 3


def train(
    project: Project, *, parts: Sequence[str] = PARTS, resume: bool = False, way: TrainingRecipe | None = None
) -> CommandResult:
    """Train the encoder, fit the ranker, or both, and put them into use.

    Of several processes that torchrun has started, the first does all of it and the others help with the products.

    Args:
        project: the project.
        parts: "encoder", "ranker" or both.
        resume: go on where a training of the same data and settings was stopped.
        way: from another model, with labels, with a teacher; None = an ordinary training.

    Raises:
        DataContractError: there is nothing to learn from.
        UsageError: there is nothing to go on with, or the ranker alone is to be trained in another way.
        ModelFolderError: the ranker alone is asked for and there is no encoder; or a model to start from does not fit.
        InterruptedRunError: a signal came; a checkpoint has been written.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UsageError(f"unknown part '{unknown[0]}'; train {' or '.join(PARTS)}")
    way = way or TrainingRecipe(project)
    if not way.is_default and "encoder" not in parts:
        raise UsageError(f"{way.option_text} trains the encoder; leave 'ranker' out, which is fitted after it")
    if not way.is_default and crew.world_size() > 1:
        raise UsageError(f"{way.option_text} trains in one process; start it without torchrun")
    if crew.is_helper():
        return _join_distributed_training(project, parts=parts, resume=resume)
    dataset = project.dataset
    require_training_data(dataset)
    given = create_job(project, resume=resume, way=way)
    left = _remaining_parts(project, given, way, parts) if resume else tuple(parts)
    if "encoder" in left:
        given = replace(given, plan=way.plan)  # a model that does not fit is refused before anything is removed
        _warn_replaced_recipe(project, way)
    _forget_others(given.folder)
    artifacts: dict[str, Path] = {}
    tables: list[Table] = []
    if "encoder" in left:
        model, table = given.train_encoder()
        predicted = way.predictions(model, table.vectors)
        tables = way.tables(model, predicted)
        seed = project.settings.training.seed
        artifacts["encoder"] = checkpoint.save(
            model, project.models_folder / "encoder", data_fingerprint=dataset.fingerprint, seed=seed
        )
        if predicted is not None:
            with project.store.engine.begin() as connection:
                predictions.replace(
                    connection, project.store.dialect, predicted, attributes=predicted["attribute"].unique()
                )
        table.save(project.embeddings_folder)  # they are those of the model just saved: nobody encodes them again
        TrainingState.capture(
            project, dataset, encoder=model.version, ranker="", way=way.fingerprint, said=way.option_text
        ).save(project.models_folder)
        project.reload_models()
        given.clean_up()
    elif "encoder" in parts:
        with distributed.process_group(project.settings.training.device):
            distributed.broadcast(0)
    if "ranker" in left:
        artifacts["ranker"] = rankers.save_ranker(
            given.fit_ranker(project.model, update_embeddings(project).table.vectors),
            project.models_folder / "ranker",
            encoder=project.model.version,
            data_fingerprint=dataset.fingerprint,
            seed=project.settings.training.seed,
        )
        known = TrainingState.load(project.models_folder)
        same = known if known and known.encoder == project.model.version else None
        TrainingState.capture(
            project,
            dataset,
            encoder=project.model.version,
            ranker=artifacts["ranker"].name,
            way=same.way if same else "",
            said=same.said if same else "",
        ).save(project.models_folder)
        project.reload_models()
        given.clean_up()
    counts = {"products": len(dataset.catalogue), "users": len(dataset.users), "events": len(dataset.interactions)}
    return CommandResult(
        "train",
        counts={**counts, **way.counts()},
        warnings=way.warnings(),
        artifacts=artifacts,
        tables=[*tables, project.stage_table()],
        notes=way.notes() if tables else [],
    )


def _join_distributed_training(project: Project, *, parts: Sequence[str], resume: bool) -> CommandResult:
    """What the processes but the first do of a training under torchrun: help with the product encoder.

    They read the data only when the first has, which is when it says that there is something to do.
    """
    if "encoder" in parts:
        with distributed.process_group(project.settings.training.device):
            if distributed.broadcast(1):
                create_job(project, resume=resume).train_product_encoder()
    return CommandResult("train")


def create_job(project: Project, *, resume: bool, way: TrainingRecipe | None = None) -> TrainingJob:
    """The training of today's data with today's settings in this way; its folder is named by all three."""
    dataset = project.dataset
    name = "-".join(
        [project.model_settings_hash(), dataset.fingerprint, *([way.fingerprint] if way and way.fingerprint else [])]
    )
    folder = project.settings.artifacts / "training" / name
    return TrainingJob(project, dataset.catalogue, dataset.interactions, folder, resume=resume)


def _warn_replaced_recipe(project: Project, way: TrainingRecipe) -> None:
    """Tell when an ordinary training takes the place of one with labels, a teacher, or another model to start from."""
    known = TrainingState.load(project.models_folder)
    if known is not None and known.way and way.is_default:
        logger.warning(
            "the encoder in use was trained with %s; the new one is not: give the options again to have it so",
            known.said,
        )


def _remaining_parts(
    project: Project, given: TrainingJob, way: TrainingRecipe, parts: Sequence[str]
) -> tuple[str, ...]:
    """What a stopped training has left to do: the ranker alone when it was stopped after the encoder was saved."""
    known, dataset = TrainingState.load(project.models_folder), project.dataset
    now = (project.model_settings_hash(), dataset.fingerprint, way.fingerprint)
    same = known is not None and (known.model_hash, known.fingerprint, known.way) == now
    if known is not None and same and not known.ranker and "ranker" in parts:
        return ("ranker",)
    if not given.has_checkpoint:
        said = f" with {way.option_text}" if way.option_text else ""
        raise UsageError(
            f"there is no stopped training of this data and these settings{said} to go on with; train without --resume"
        )
    return tuple(parts)


def _forget_others(folder: Path) -> None:
    """Remove what trainings of other data or settings left, but for the logs of the last few."""
    if not folder.parent.exists():
        return
    others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for at, other in enumerate(others):
        for path in other.glob("*/*.safetensors"):
            path.unlink()
        shutil.rmtree(other / "vectors" if at < _LOGS_KEPT else other, ignore_errors=True)


def require_training_data(dataset: Dataset) -> None:
    """Refuse data nothing can be learned from.

    Raises:
        DataContractError: there is no product, or no event.
    """
    if not len(dataset.catalogue):
        raise DataContractError("the catalogue is empty: the store holds no product; run 'recsys ingest' with products")
    if not len(dataset.interactions):
        raise DataContractError("the store holds no events; run 'recsys ingest' with events such as purchases")
