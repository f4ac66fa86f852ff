"""Training the models in use: the encoder, the ranker, or both.

In: a Bench. Out: model folders `encoder/<version>` and `ranker/<version>`, and a note of what they were trained on.
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
from recsys.pipeline.embed import embedded
from recsys.pipeline.project import Bench
from recsys.pipeline.result import Report, Table
from recsys.pipeline.train_job import Lesson
from recsys.pipeline.train_recipe import Way
from recsys.pipeline.train_state import Trained
from recsys.recommend.ranking import checkpoint as rankers
from recsys.store import predicted_attributes as predictions

logger = logging.getLogger(__name__)

PARTS = ("encoder", "ranker")
_LOGS_KEPT = 3


def train(bench: Bench, *, parts: Sequence[str] = PARTS, resume: bool = False, way: Way | None = None) -> Report:
    """Train the encoder, fit the ranker, or both, and put them into use.

    Of several processes that torchrun has started, the first does all of it and the others help with the products.

    Args:
        bench: the project.
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
    way = way or Way(bench)
    if not way.plain and "encoder" not in parts:
        raise UsageError(f"{way.said} trains the encoder; leave 'ranker' out, which is fitted after it")
    if not way.plain and crew.size() > 1:
        raise UsageError(f"{way.said} trains in one process; start it without torchrun")
    if crew.follows():
        return _helped(bench, parts=parts, resume=resume)
    dataset = bench.dataset
    trainable(dataset)
    given = lesson(bench, resume=resume, way=way)
    left = _left(bench, given, way, parts) if resume else tuple(parts)
    if "encoder" in left:
        given = replace(given, course=way.course)  # a model that does not fit is refused before anything is removed
        _lost(bench, way)
    _forget_others(given.folder)
    artifacts: dict[str, Path] = {}
    tables: list[Table] = []
    if "encoder" in left:
        model, table = given.encoder()
        predicted = way.predictions(model, table.vectors)
        tables = way.tables(model, predicted)
        seed = bench.settings.training.seed
        artifacts["encoder"] = checkpoint.save(
            model, bench.models / "encoder", data_fingerprint=dataset.fingerprint, seed=seed
        )
        if predicted is not None:
            with bench.store.engine.begin() as connection:
                predictions.replace(
                    connection, bench.store.dialect, predicted, attributes=predicted["attribute"].unique()
                )
        table.save(bench.embeddings)  # they are those of the model just saved: nobody encodes them again
        Trained.now(bench, dataset, encoder=model.version, ranker="", way=way.key, said=way.said).save(bench.models)
        bench.refresh_models()
        given.done()
    elif "encoder" in parts:
        with distributed.together(bench.settings.training.device):
            distributed.told(0)
    if "ranker" in left:
        artifacts["ranker"] = rankers.save(
            given.ranker(bench.model, embedded(bench).table.vectors),
            bench.models / "ranker",
            encoder=bench.model.version,
            data_fingerprint=dataset.fingerprint,
            seed=bench.settings.training.seed,
        )
        known = Trained.load(bench.models)
        same = known if known and known.encoder == bench.model.version else None
        Trained.now(
            bench,
            dataset,
            encoder=bench.model.version,
            ranker=artifacts["ranker"].name,
            way=same.way if same else "",
            said=same.said if same else "",
        ).save(bench.models)
        bench.refresh_models()
        given.done()
    counts = {"products": len(dataset.catalogue), "users": len(dataset.users), "events": len(dataset.interactions)}
    return Report(
        "train",
        counts={**counts, **way.counts()},
        warnings=way.warnings(),
        artifacts=artifacts,
        tables=[*tables, bench.times()],
        notes=way.notes() if tables else [],
    )


def _helped(bench: Bench, *, parts: Sequence[str], resume: bool) -> Report:
    """What the processes but the first do of a training under torchrun: help with the product encoder.

    They read the data only when the first has, which is when it says that there is something to do.
    """
    if "encoder" in parts:
        with distributed.together(bench.settings.training.device):
            if distributed.told(1):
                lesson(bench, resume=resume).products()
    return Report("train")


def lesson(bench: Bench, *, resume: bool, way: Way | None = None) -> Lesson:
    """The training of today's data with today's settings in this way; its folder is named by all three."""
    dataset = bench.dataset
    name = "-".join([bench.model_hash(), dataset.fingerprint, *([way.key] if way and way.key else [])])
    folder = bench.settings.artifacts / "training" / name
    return Lesson(bench, dataset.catalogue, dataset.interactions, folder, resume=resume)


def _lost(bench: Bench, way: Way) -> None:
    """Tell when an ordinary training takes the place of one with labels, a teacher, or another model to start from."""
    known = Trained.load(bench.models)
    if known is not None and known.way and way.plain:
        logger.warning(
            "the encoder in use was trained with %s; the new one is not: give the options again to have it so",
            known.said,
        )


def _left(bench: Bench, given: Lesson, way: Way, parts: Sequence[str]) -> tuple[str, ...]:
    """What a stopped training has left to do: the ranker alone when it was stopped after the encoder was saved."""
    known, dataset = Trained.load(bench.models), bench.dataset
    now = (bench.model_hash(), dataset.fingerprint, way.key)
    same = known is not None and (known.model_hash, known.fingerprint, known.way) == now
    if known is not None and same and not known.ranker and "ranker" in parts:
        return ("ranker",)
    if not given.begun:
        said = f" with {way.said}" if way.said else ""
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


def trainable(dataset: Dataset) -> None:
    """Refuse data nothing can be learned from.

    Raises:
        DataContractError: there is no product, or no event.
    """
    if not len(dataset.catalogue):
        raise DataContractError("the catalogue is empty: the store holds no product; run 'recsys ingest' with products")
    if not len(dataset.interactions):
        raise DataContractError("the store holds no events; run 'recsys ingest' with events such as purchases")
