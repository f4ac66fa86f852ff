"""How the models in use were trained: the numbers of the encoder's journal step by step, and those at the end.

In: an open project. Out: `Training`; read from the artifacts, no model is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.artifacts.model_folder import current_version
from recsys.errors import ModelFolderError
from recsys.pipeline.project import Project
from recsys.pipeline.train_state import TrainingState
from recsys.report.measurements import Cell, Curve, Grid, Training

_NO_CURVES = frozenset({"gradient", "waiting", "per_second"})
"""Numbers of a journal that say nothing of what was learned."""


def load_learning_curves(project: Project) -> Training | None:
    """The journal and the numbers of the encoder in use; None where none was trained."""
    try:
        encoder = current_version(project.models_folder, "encoder")
    except ModelFolderError:
        return None
    known = TrainingState.load(project.models_folder)
    curves: tuple[Curve, ...] = ()
    if known is not None and known.encoder == encoder.name:
        name = "-".join([known.model_hash, known.fingerprint, *([known.way] if known.way else [])])
        curves = _curves(project.settings.artifacts / "training" / name / "encoder" / "metrics.jsonl")
    last = _noted(encoder / "metrics.json")
    try:
        ranker = _noted(current_version(project.models_folder, "ranker") / "metrics.json")
    except ModelFolderError:
        ranker = ()
    return Training(
        curves,
        Grid("Encoder, numbers at the end of its training", ("what", "value"), last),
        Grid("Ranker", ("what", "value"), ranker),
    )


def _curves(path: Path) -> tuple[Curve, ...]:
    """Every number of a journal over its steps; what says nothing of learning is left out."""
    if not path.is_file():
        return ()
    held: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a training that was killed
            continue
        stage, step = row.pop("stage"), row.pop("step")
        for name, value in row.items():
            if name not in _NO_CURVES and isinstance(value, int | float) and math.isfinite(value):
                held.setdefault((stage, name), []).append((int(step), float(value)))
    return tuple(
        Curve(stage, name, *(tuple(column) for column in zip(*sorted(points), strict=True)))
        for (stage, name), points in held.items()
    )


def _noted(path: Path) -> tuple[tuple[Cell, ...], ...]:
    """Names and values of a metrics.json; nested ones with dots, lists as one text."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(_flat(document)) if isinstance(document, dict) else ()


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[Cell, ...]]:
    out: list[tuple[Cell, ...]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{before}{name}.")
        elif isinstance(value, list):
            out.append((before + name, ", ".join(map(str, value))))
        else:
            out.append((before + name, value if isinstance(value, int | float | None) else str(value)))
    return out
