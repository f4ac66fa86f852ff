"""The `report` command: writes one HTML file and its numbers as JSON, each of them atomically.

In: an open project, a path. Out: the two files, a result with their paths.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from recsys.artifacts import atomic
from recsys.errors import RecsysError, UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.report_data.collect import collect_content
from recsys.pipeline.result import CommandResult, Table

SUFFIXES = (".html", ".htm")


def write_report(project: Project, output: Path | None = None) -> CommandResult:
    """Collect the content of the report and write it.

    Args:
        project: the project.
        output: the HTML file, relative to the current folder; [report] path in the project folder when not given. The
            numbers go beside it, with the ending .json.

    Raises:
        UsageError: the path has a wrong ending, or is a folder.
        RecsysError: the page would be larger than 8 MB.
    """
    from recsys.report.html import MAX_PAGE_BYTES, render_html, to_json
    from recsys.report.summary import summarize

    path = output if output is not None else project.settings.project / project.settings.report.path
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot write '{path}': give a file that ends in {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder; give a file")
    with project.progress.stage("gather report"):
        content = collect_content(project, now=int(time.time()))
    with project.progress.stage("write report"):
        html = render_html(content).encode()
        if len(html) > MAX_PAGE_BYTES:
            raise RecsysError(f"the report has {len(html):,} bytes; lower [report] products or users")
        numbers = path.with_suffix(".json")
        _write_atomically(numbers, (json.dumps(to_json(content), ensure_ascii=False, indent=1) + "\n").encode())
        _write_atomically(path, html)
    summary = summarize(content)
    return CommandResult(
        "report",
        run_id=content.lists.run_id if content.lists else None,
        counts={"bytes": len(html), "products_shown": len(content.products), "users_shown": len(content.people)},
        artifacts={"report": path, "numbers": numbers},
        tables=[Table("", ("verdict",), [(summary.headline,), *((note.text,) for note in summary.look)])],
        notes=[f"open {path} in a browser"],
    )


def remove_report(project: Project) -> list[Path]:
    """Remove the report of `run` and its numbers, which show users by id; return the removed files."""
    path = project.settings.project / project.settings.report.path
    files = [file for file in (path, path.with_suffix(".json")) if file.is_file()]
    for file in files:
        file.unlink()
    return files


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-"
    atomic.remove_stale_temp_files(path.parent, prefix)
    draft = path.parent / f"{prefix}{os.getpid()}"
    try:
        atomic.write_durable(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    atomic.fsync_path(path.parent)
