"""Forgetting users: everything of theirs in the store and the report goes, and they cannot come back.

In: a Bench, user ids. Out: a Report that names what is left for the shop to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from recsys.errors import UsageError
from recsys.pipeline import report as reporting
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult
from recsys.store import erasure as store


def forget_users(bench: Project, user_ids: Sequence[str]) -> CommandResult:
    """Erase users from the store, in all runs, and leave them out of every later ingest.

    Raises:
        UsageError: nobody is named, or the list for users without history is.
    """
    if not user_ids:
        raise UsageError("name the users to forget, or --users FILE with one id a line")
    with bench.progress.stage("forget"):
        gone = store.erase_users(bench.store, user_ids)
        reports = reporting.remove_report(bench)
    bench.reload()
    warnings = []
    unknown = len(set(user_ids)) - gone.users
    if unknown:
        warnings.append(f"the store held nothing of {unknown} of the users; they cannot come in either")
    return CommandResult(
        "forget",
        counts={"asked": len(set(user_ids)), **asdict(gone)},
        warnings=warnings,
        notes=[
            *(f"{path.name} showed users and is removed; 'recsys report' writes it anew" for path in reports),
            "models that learned from them hold no ids; 'recsys train' makes models that never saw them",
            "take them out of your own files, exports and backups too",
        ],
    )
