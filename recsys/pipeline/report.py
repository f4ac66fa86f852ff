"""The report written: one HTML file and the numbers beside it, both whole or not at all.

In: a Bench, a path. Out: the two files, a Report that says where they are.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from recsys.artifacts import atomic as durable
from recsys.errors import RecsysError, UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.report_data.collect import collect_content
from recsys.pipeline.result import CommandResult, Table

SUFFIXES = (".html", ".htm")


def write_report(bench: Project, output: Path | None = None) -> CommandResult:
    """Gather and write.

    Args:
        bench: the project.
        output: the HTML file, relative to the current folder; [report] path in the project folder when not given. The
            numbers stand beside it, with the ending .json.

    Raises:
        UsageError: the path has another ending, or is a folder.
        RecsysError: the page would be larger than 8 MB.
    """
    from recsys.report.html import LIMIT, render_html, to_json
    from recsys.report.summary import verdict

    path = output if output is not None else bench.settings.project / bench.settings.report.path
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot write '{path}': give a file that ends in {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder; give a file")
    with bench.progress.stage("gather report"):
        content = collect_content(bench, now=int(time.time()))
    with bench.progress.stage("write report"):
        html = render_html(content).encode()
        if len(html) > LIMIT:
            raise RecsysError(f"the report has {len(html):,} bytes; lower [report] products or users")
        numbers = path.with_suffix(".json")
        _written(numbers, (json.dumps(to_json(content), ensure_ascii=False, indent=1) + "\n").encode())
        _written(path, html)
    said = verdict(content)
    return CommandResult(
        "report",
        run_id=content.lists.run_id if content.lists else None,
        counts={"bytes": len(html), "products_shown": len(content.products), "users_shown": len(content.people)},
        artifacts={"report": path, "numbers": numbers},
        tables=[Table("", ("verdict",), [(said.headline,), *((note.text,) for note in said.look)])],
        notes=[f"open {path} in a browser"],
    )


def remove_report(bench: Project) -> list[Path]:
    """Remove the report that `run` writes, and its numbers: it shows users by their ids. The files that went."""
    path = bench.settings.project / bench.settings.report.path
    there = [file for file in (path, path.with_suffix(".json")) if file.is_file()]
    for file in there:
        file.unlink()
    return there


def _written(path: Path, held: bytes) -> None:
    """Write a file beside and rename it, so that nobody reads half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-"
    durable.remove_stale_temp_files(path.parent, prefix)
    draft = path.parent / f"{prefix}{os.getpid()}"
    try:
        durable.write_durable(draft, held)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    durable.fsync_path(path.parent)
