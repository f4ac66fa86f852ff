"""The `forget` command: erases users from the store and the report, and keeps later ingests from adding them again.

In: an open project, user ids. Out: a result that names what the shop itself must still erase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from recsys.errors import UsageError
from recsys.pipeline.project import Project
from recsys.pipeline.report import remove_report
from recsys.pipeline.result import CommandResult
from recsys.store.erasure import erase_users


def forget_users(project: Project, user_ids: Sequence[str]) -> CommandResult:
    """Erase users from the store, in all runs, and exclude them from every later ingest.

    Raises:
        UsageError: there is no user id, or one names the list for users without history.
    """
    if not user_ids:
        raise UsageError("name the users to forget, or --users FILE with one id a line")
    with project.progress.stage("forget"):
        erased = erase_users(project.store, user_ids)
        reports = remove_report(project)
    project.reload()
    warnings = []
    unknown = len(set(user_ids)) - erased.users
    if unknown:
        warnings.append(f"the store held nothing of {unknown} of the users; they cannot come in either")
    return CommandResult(
        "forget",
        counts={"asked": len(set(user_ids)), **asdict(erased)},
        warnings=warnings,
        notes=[
            *(f"{path.name} showed users and is removed; 'recsys report' writes a new one" for path in reports),
            "models that learned from them hold no ids; 'recsys train' makes models that never saw them",
            "take them out of your own files, exports and backups too",
        ],
    )
