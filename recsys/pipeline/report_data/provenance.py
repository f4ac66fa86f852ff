"""Where a report comes from: runs, models, data, settings, versions; secrets masked.

In: an open project and the published run. Out: tables of names and values.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from recsys._version import __version__
from recsys.config import Settings
from recsys.config.loading import names, value_of
from recsys.errors import ModelFolderError
from recsys.log import redact
from recsys.pipeline.index import SIMILAR
from recsys.pipeline.project import Project
from recsys.report.measurements import Cell, Grid
from recsys.store import publication as pointer

_LIBRARIES = ("torch", "torchvision", "transformers", "polars", "numpy", "scikit-learn", "lightgbm", "sqlalchemy")
_HIDDEN = ("url", "query", "password", "token", "secret", "key")
"""Parts of a setting's name whose value is not shown."""
_LONGEST = 200
_CLUSTERS = "clusters"
"""Placement of the runs that hold groups, as the view cluster_labels names it."""


def utc(at: datetime) -> datetime:
    """A time of the store, which is UTC, with its zone."""
    return at.replace(tzinfo=UTC)


def format_time(at: datetime | None) -> str | None:
    """A time of the store for people."""
    return None if at is None else (at if at.tzinfo else utc(at)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def collect_provenance(project: Project, run: Mapping[str, Any] | None, *, now: int) -> Grid:
    """Everything that names what the report was made from."""
    settings = project.settings
    rows: list[tuple[Cell, ...]] = [("report made", format_time(datetime.fromtimestamp(now, UTC)))]
    if run is not None:
        rows += [
            ("run of the lists", str(run["run_id"])),
            ("begun", format_time(run["started_at"])),
            ("finished", format_time(run["finished_at"])),
            ("published", format_time(run["published_at"])),
            ("model of the lists", run["model_version"]),
            ("data of the lists", run["data_fingerprint"]),
            ("settings of the lists", run["config_hash"]),
            ("made by recsys", run["version"]),
        ]
    with project.store.reader() as connection:
        for what, placement in (("run of the groups", _CLUSTERS), ("run of the neighbours", SIMILAR)):
            other = pointer.published_run(connection, placement)
            if other is not None:
                rows.append((what, str(other["run_id"])))
    rows += [
        ("data today", project.dataset.fingerprint),
        ("model today", _model(project)),
        ("settings of lists today", project.recommendation_settings_hash()),
        ("settings of models today", project.model_settings_hash()),
        ("seed", settings.training.seed),
        ("database", redact(settings.database_url).partition("?")[0]),
        ("recsys", __version__),
        ("python", platform.python_version()),
        *((name, _version(name)) for name in _LIBRARIES),
    ]
    return Grid("Runs, models, data, versions", ("what", "value"), tuple(rows))


def non_default_settings(settings: Settings) -> Grid:
    """The settings that are not the default; those that may hold a secret are named, not shown."""
    default, rows = Settings(), list[tuple[Cell, ...]]()
    for name in names():
        value = value_of(settings, name)
        if value == value_of(default, name):
            continue
        secret = isinstance(value, SecretStr) or any(part in name.split(".")[1] for part in _HIDDEN)
        rows.append((name, "set, not shown" if secret else redact(str(value))[:_LONGEST]))
    return Grid("Settings that are not the default", ("setting", "value"), tuple(rows))


def _model(project: Project) -> str | None:
    try:
        return project.model_version
    except ModelFolderError:
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
