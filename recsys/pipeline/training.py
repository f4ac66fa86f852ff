"""Training the models in use: the encoder, the ranker, or both.

In: a Bench. Out: model folders `encoder/<version>` and `ranker/<version>`, and a note of what they were trained on.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from recsys.data.dataset import Dataset
from recsys.encoder import checkpoint, distributed
from recsys.errors import DataContractError, UsageError
from recsys.execution import crew
from recsys.pipeline import rankers
from recsys.pipeline.bench import Bench
from recsys.pipeline.lesson import Lesson
from recsys.pipeline.report import Report
from recsys.pipeline.space import embedded
from recsys.pipeline.trained import Trained

PARTS = ("encoder", "ranker")
_LOGS_KEPT = 3


def train(bench: Bench, *, parts: Sequence[str] = PARTS, resume: bool = False) -> Report:
    """Train the encoder, fit the ranker, or both, and put them into use.

    Of several processes that torchrun has started, the first does all of it and the others help with the products.

    Args:
        bench: the project.
        parts: "encoder", "ranker" or both.
        resume: go on where a training of the same data and settings was stopped.

    Raises:
        DataContractError: there is nothing to learn from.
        UsageError: there is nothing to go on with.
        ModelFolderError: the ranker alone is asked for and there is no encoder.
        InterruptedRunError: a signal came; a checkpoint has been written.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UsageError(f"unknown part '{unknown[0]}'; train {' or '.join(PARTS)}")
    if crew.follows():
        return _helped(bench, parts=parts, resume=resume)
    dataset = bench.dataset
    trainable(dataset)
    given = lesson(bench, resume=resume)
    left = _left(bench, given, parts) if resume else tuple(parts)
    _forget_others(given.folder)
    artifacts: dict[str, Path] = {}
    if "encoder" in left:
        model, table = given.encoder()
        seed = bench.settings.training.seed
        artifacts["encoder"] = checkpoint.save(
            model, bench.models / "encoder", data_fingerprint=dataset.fingerprint, seed=seed
        )
        table.save(bench.embeddings)  # they are those of the model just saved: nobody encodes them again
        Trained.now(bench, dataset, encoder=model.version, ranker="").save(bench.models)
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
        Trained.now(bench, dataset, encoder=bench.model.version, ranker=artifacts["ranker"].name).save(bench.models)
        bench.refresh_models()
        given.done()
    counts = {"products": len(dataset.catalogue), "users": len(dataset.users), "events": len(dataset.interactions)}
    return Report("train", counts=counts, artifacts=artifacts, tables=[bench.times()])


def _helped(bench: Bench, *, parts: Sequence[str], resume: bool) -> Report:
    """What the processes but the first do of a training under torchrun: help with the product encoder.

    They read the data only when the first has, which is when it says that there is something to do.
    """
    if "encoder" in parts:
        with distributed.together(bench.settings.training.device):
            if distributed.told(1):
                lesson(bench, resume=resume).products()
    return Report("train")


def lesson(bench: Bench, *, resume: bool) -> Lesson:
    """The training of today's data with today's settings; its folder is named by both."""
    dataset = bench.dataset
    folder = bench.settings.artifacts / "training" / f"{bench.model_hash()}-{dataset.fingerprint}"
    return Lesson(bench, dataset.catalogue, dataset.interactions, folder, resume=resume)


def _left(bench: Bench, given: Lesson, parts: Sequence[str]) -> tuple[str, ...]:
    """What a stopped training has left to do: the ranker alone when it was stopped after the encoder was saved."""
    known, dataset = Trained.load(bench.models), bench.dataset
    same = known is not None and (known.model_hash, known.fingerprint) == (bench.model_hash(), dataset.fingerprint)
    if known is not None and same and not known.ranker and "ranker" in parts:
        return ("ranker",)
    if not given.begun:
        raise UsageError(
            "there is no stopped training of this data and these settings to go on with; train without --resume"
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
