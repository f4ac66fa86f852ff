"""The `doctor` command: checks whether machine, database and disk are sufficient for the shop.

In: an open project. Out: a result with one row per check; problems are warnings, nothing is changed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from recsys.errors import RecsysError
from recsys.log import redact
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table

_LIBRARIES = ("torch", "torchvision", "transformers", "faiss", "polars", "numpy", "sqlalchemy", "scikit-learn")
_BATCH_USERS = 1024
"""Users scored in one batch, for the memory estimate."""


def check_environment(project: Project) -> CommandResult:
    """Check interpreter, processors, memory, libraries, disk and database."""
    rows: list[tuple[str, str]] = [
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("processors", str(_count_processors())),
        ("memory", f"{_memory_gb():.1f} GB"),
        ("graphics card", _gpu_name()),
        *((f"library {name}", _library_version(name)) for name in _LIBRARIES),
    ]
    warnings: list[str] = []
    folder = project.settings.project.absolute()
    free_gb = shutil.disk_usage(_nearest_existing(folder)).free / 1e9
    rows.append(("free disk", f"{free_gb:.1f} GB at {folder}"))
    if free_gb < 1:
        warnings.append(f"only {free_gb:.1f} GB of disk are free at {folder}")
    rows.append(("database", redact(project.settings.database_url)))
    try:
        counts = project.store.row_counts()
    except RecsysError as error:
        warnings.append(str(error))
        rows.append(("database answers", "no"))
        counts = {}
    else:
        rows.append(("database answers", "yes"))
        rows += [(f"rows of {name}", f"{value:,}") for name, value in counts.items()]
    if counts:
        needed_gb = _estimate_memory_gb(
            project, products=counts.get("products", 0), users=counts.get("users", 0), events=counts.get("events", 0)
        )
        rows.append(("memory needed", f"about {needed_gb:.1f} GB to train and recommend"))
        if needed_gb > 0.8 * _memory_gb():
            warnings.append(
                f"this shop needs about {needed_gb:.1f} GB of memory; lower [encoder] dim or [training] batch_size"
            )
    return CommandResult(
        "doctor",
        status="problems" if warnings else "done",
        warnings=warnings,
        tables=[Table("checks", ("check", "found"), rows)],
    )


def _estimate_memory_gb(project: Project, *, products: int, users: int, events: int) -> float:
    """Estimate memory by a rule of thumb: libraries, vectors twice, scores, events, training activations."""
    encoder, training = project.settings.encoder, project.settings.training
    vectors = 2 * products * encoder.dim * 4
    scores = 3 * _BATCH_USERS * products * 4
    history = events * 60 + users * 200
    tokens = encoder.text_tokens + (project.settings.images.size // 8) ** 2 + 16
    activations = (
        training.batch_size * tokens * encoder.width * 4 * 24 * (encoder.text_layers + encoder.fusion_layers + 2)
    )
    return 1.0 + (vectors + scores + history + activations) / 1e9


def _count_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float:
    """Return the memory this process may use: the machine's, or its control group's limit when that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        return min(total, int(text) / 1e9)
    return total


def _gpu_name() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none; training and scoring use the processor"
    return torch.cuda.get_device_name(0)


def _library_version(name: str) -> str:
    for candidate in (name, f"{name}-cpu", f"{name}-gpu"):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "missing"


def _nearest_existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())
