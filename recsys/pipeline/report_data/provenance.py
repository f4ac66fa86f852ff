"""Provenance of a report: runs, models, data, settings and versions, with secrets masked.

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
from recsys.config.loading import setting_names, setting_value
from recsys.errors import ModelFolderError
from recsys.log import redact
from recsys.pipeline.index import SIMILAR
from recsys.pipeline.project import Project
from recsys.report.measurements import Cell, Grid
from recsys.store import publication as pointer

_LIBRARIES = ("torch", "torchvision", "transformers", "polars", "numpy", "scikit-learn", "lightgbm", "sqlalchemy")
_SECRET_PARTS = ("url", "query", "password", "token", "secret", "key")
"""A setting whose name contains one of these is not shown."""
_MAX_VALUE_LENGTH = 200
_CLUSTERS = "clusters"
"""Placement of the runs that hold clusters, as in the view cluster_labels."""


def utc(time: datetime) -> datetime:
    """Add the UTC time zone to a time of the store."""
    return time.replace(tzinfo=UTC)


def format_time(time: datetime | None) -> str | None:
    """Format a time of the store for people."""
    return (
        None if time is None else (time if time.tzinfo else utc(time)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def collect_provenance(project: Project, run: Mapping[str, Any] | None, *, now: int) -> Grid:
    """Collect the versions and fingerprints of everything the report was made from."""
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
        for name, placement in (("run of the groups", _CLUSTERS), ("run of the neighbours", SIMILAR)):
            published = pointer.current_run(connection, placement)
            if published is not None:
                rows.append((name, str(published["run_id"])))
    rows += [
        ("data today", project.dataset.fingerprint),
        ("model today", _model_version(project)),
        ("settings of lists today", project.recommendation_settings_hash()),
        ("settings of models today", project.model_settings_hash()),
        ("seed", settings.training.seed),
        ("database", redact(settings.database_url).partition("?")[0]),
        ("recsys", __version__),
        ("python", platform.python_version()),
        *((name, _library_version(name)) for name in _LIBRARIES),
    ]
    return Grid("Runs, models, data, versions", ("what", "value"), tuple(rows))


def non_default_settings(settings: Settings) -> Grid:
    """Collect the settings that differ from the default; the values of possible secrets are not shown."""
    default, rows = Settings(), list[tuple[Cell, ...]]()
    for name in setting_names():
        value = setting_value(settings, name)
        if value == setting_value(default, name):
            continue
        secret = isinstance(value, SecretStr) or any(part in name.split(".")[1] for part in _SECRET_PARTS)
        rows.append((name, "set, not shown" if secret else redact(str(value))[:_MAX_VALUE_LENGTH]))
    return Grid("Settings that are not the default", ("setting", "value"), tuple(rows))


def _model_version(project: Project) -> str | None:
    try:
        return project.model_version
    except ModelFolderError:
        return None


def _library_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
