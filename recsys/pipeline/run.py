"""The night: ingest from the source, train when stale, embed, cluster, index, recommend, publish, report.

In: a Bench. Out: new lists for consumers, a Report with the time and memory of each stage; or, dry, only the plan.
"""

from __future__ import annotations

from dataclasses import replace

from recsys.errors import InterruptedRunError, RecsysError
from recsys.execution.progress import peak_mb
from recsys.log import redact
from recsys.pipeline import cluster as grouping
from recsys.pipeline import embed as space
from recsys.pipeline import index
from recsys.pipeline import ingest as intake
from recsys.pipeline import recommend as lists
from recsys.pipeline import report as reporting
from recsys.pipeline import train as training
from recsys.pipeline import train_state as trained
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table


def plan_run(bench: Project) -> CommandResult:
    """What `run_nightly` would do now and why; nothing is written."""
    due = trained.stale_parts(bench)
    source = bench.settings.source.url is not None
    rows = [
        ("ingest", "yes" if source else "no", "[source] url is set" if source else "no [source] url"),
        *(
            (f"train {part}", "yes" if part in due else "no", due.get(part, "the model in use is recent enough"))
            for part in training.PARTS
        ),
        ("embed", "yes", "only products whose content or model changed"),
        ("cluster", "yes", ""),
        ("index", "yes", ""),
        ("recommend", "yes", f"{len(bench.dataset.users_to_score()):,} users"),
        ("publish", "yes", "when the guards pass"),
        ("report", "yes" if bench.settings.report.nightly else "no", "[report] nightly"),
    ]
    return CommandResult("run", status="planned", tables=[Table("plan", ("step", "done", "why"), rows)])


def run_nightly(bench: Project) -> CommandResult:
    """Do it. A run that was stopped goes on where it stopped when called again.

    Raises:
        PublishGuardError: the lists are written but a guard refuses them; what consumers read stays.
        DataContractError: the data cannot be used.
        InterruptedRunError: a signal came, after a clean checkpoint.
    """
    warnings: list[str] = []
    counts: dict[str, object] = {}
    if bench.settings.source.url is not None:
        taken = intake.ingest(bench, intake.IngestRequest(sql=True))
        warnings += taken.warnings
        counts["ingested"] = dict(taken.counts)
    training.require_training_data(bench.dataset)
    due = trained.stale_parts(bench)
    if due:
        training.train(bench, parts=tuple(due), resume=training.create_job(bench, resume=True).has_checkpoint)
    counts["encoded"] = space.embed_products(bench).counts["encoded"]
    grouped = grouping.cluster_products(bench)
    counts["clusters"] = grouped.counts["clusters"]
    warnings += grouped.warnings
    counts["index_recall"] = index.build_index(bench).counts["recall"]
    made = lists.recommend(bench)
    counts |= made.counts
    page = _write_report(bench)
    counts["trained"] = ", ".join(due) or "nothing"
    counts["seconds"] = round(sum(bench.progress.seconds.values()), 1)
    counts["peak_mb"] = peak_mb()
    tables = [bench.stage_table(), *(table for table in made.tables if table.name == lists.DROPS)]
    return replace(
        made,
        command="run",
        counts=counts,
        warnings=[*warnings, *made.warnings, *page.warnings],
        artifacts=page.artifacts,
        tables=tables,
    )


def _write_report(bench: Project) -> CommandResult:
    """The report, when it is wanted; a night whose lists are published does not fail over a page."""
    if not bench.settings.report.nightly:
        return CommandResult("report", status="nothing_new")
    try:
        return reporting.write_report(bench)
    except InterruptedRunError:
        raise
    except (RecsysError, OSError) as error:
        said = f"the lists are published, but the report could not be written: {redact(str(error))}"
        return CommandResult("report", status="failed", warnings=[said])
