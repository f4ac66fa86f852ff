"""Learning curves and final metrics of the models in use.

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

_EXCLUDED_METRICS = frozenset({"gradient", "waiting", "per_second"})
"""Logged metrics that say nothing about learning."""


def load_learning_curves(project: Project) -> Training | None:
    """Load curves and final metrics of the models in use; None without an encoder."""
    try:
        encoder = current_version(project.models_folder, "encoder")
    except ModelFolderError:
        return None
    state = TrainingState.load(project.models_folder)
    curves: tuple[Curve, ...] = ()
    if state is not None and state.encoder == encoder.name:
        name = "-".join([state.model_hash, state.fingerprint, *([state.way] if state.way else [])])
        curves = _curves(project.settings.artifacts / "training" / name / "encoder" / "metrics.jsonl")
    last = _read_metrics(encoder / "metrics.json")
    try:
        ranker = _read_metrics(current_version(project.models_folder, "ranker") / "metrics.json")
    except ModelFolderError:
        ranker = ()
    return Training(
        curves,
        Grid("Encoder, numbers at the end of its training", ("what", "value"), last),
        Grid("Ranker", ("what", "value"), ranker),
    )


def _curves(path: Path) -> tuple[Curve, ...]:
    """Read each metric of a metrics.jsonl over its steps, without `_EXCLUDED_METRICS`."""
    if not path.is_file():
        return ()
    points_by_metric: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a killed training may be incomplete
            continue
        stage, step = row.pop("stage"), row.pop("step")
        for name, value in row.items():
            if name not in _EXCLUDED_METRICS and isinstance(value, int | float) and math.isfinite(value):
                points_by_metric.setdefault((stage, name), []).append((int(step), float(value)))
    return tuple(
        Curve(stage, name, *(tuple(column) for column in zip(*sorted(points), strict=True)))
        for (stage, name), points in points_by_metric.items()
    )


def _read_metrics(path: Path) -> tuple[tuple[Cell, ...], ...]:
    """Read a metrics.json as names and values; nested names are joined by dots, lists become one text."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(_flatten(document)) if isinstance(document, dict) else ()


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[Cell, ...]]:
    out: list[tuple[Cell, ...]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            out.append((prefix + name, ", ".join(map(str, value))))
        else:
            out.append((prefix + name, value if isinstance(value, int | float | None) else str(value)))
    return out
