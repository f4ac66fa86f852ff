"""The `run` command: ingest, train when stale, embed, cluster, index, recommend, publish, report.

In: an open project. Out: new recommendations for consumers, a result with the seconds and memory of each stage; the
dry run only returns the plan.
"""

from __future__ import annotations

from dataclasses import replace

from recsys.errors import InterruptedRunError, RecsysError
from recsys.execution.progress import peak_mb
from recsys.log import redact
from recsys.pipeline.cluster import cluster_products
from recsys.pipeline.embed import embed_products
from recsys.pipeline.index import build_index
from recsys.pipeline.ingest import IngestRequest, ingest
from recsys.pipeline.project import Project
from recsys.pipeline.recommend import DROPS, recommend
from recsys.pipeline.report import write_report
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.train import PARTS, create_job, require_training_data, train
from recsys.pipeline.train_state import stale_parts


def plan_run(project: Project) -> CommandResult:
    """Return what `run_nightly` would do now, and why; nothing is written."""
    stale = stale_parts(project)
    has_source = project.settings.source.url is not None
    rows = [
        ("ingest", "yes" if has_source else "no", "[source] url is set" if has_source else "no [source] url"),
        *(
            (f"train {part}", "yes" if part in stale else "no", stale.get(part, "the model in use is recent enough"))
            for part in PARTS
        ),
        ("embed", "yes", "only products whose content or model changed"),
        ("cluster", "yes", ""),
        ("index", "yes", ""),
        ("recommend", "yes", f"{len(project.dataset.users_to_score()):,} users"),
        ("publish", "yes", "when the guards pass"),
        ("report", "yes" if project.settings.report.nightly else "no", "[report] nightly"),
    ]
    return CommandResult("run", status="planned", tables=[Table("plan", ("step", "done", "why"), rows)])


def run_nightly(project: Project) -> CommandResult:
    """Run all steps. An interrupted run resumes where it stopped.

    Raises:
        PublishGuardError: the recommendations are written but a guard refuses them; consumers keep the previous run.
        DataContractError: the data cannot be used.
        InterruptedRunError: a signal came, after a clean checkpoint.
    """
    warnings: list[str] = []
    counts: dict[str, object] = {}
    if project.settings.source.url is not None:
        ingested = ingest(project, IngestRequest(sql=True))
        warnings += ingested.warnings
        counts["ingested"] = dict(ingested.counts)
    require_training_data(project.dataset)
    stale = stale_parts(project)
    if stale:
        train(project, parts=tuple(stale), resume=create_job(project, resume=True).has_checkpoint)
    counts["encoded"] = embed_products(project).counts["encoded"]
    clustered = cluster_products(project)
    counts["clusters"] = clustered.counts["clusters"]
    warnings += clustered.warnings
    counts["index_recall"] = build_index(project).counts["recall"]
    recommended = recommend(project)
    counts |= recommended.counts
    report_result = _write_report(project)
    counts["trained"] = ", ".join(stale) or "nothing"
    counts["seconds"] = round(sum(project.progress.seconds.values()), 1)
    counts["peak_mb"] = peak_mb()
    tables = [project.stage_table(), *(table for table in recommended.tables if table.name == DROPS)]
    return replace(
        recommended,
        command="run",
        counts=counts,
        warnings=[*warnings, *recommended.warnings, *report_result.warnings],
        artifacts=report_result.artifacts,
        tables=tables,
    )


def _write_report(project: Project) -> CommandResult:
    """Write the report if [report] nightly is set; a failing report does not fail a run that is published."""
    if not project.settings.report.nightly:
        return CommandResult("report", status="nothing_new")
    try:
        return write_report(project)
    except InterruptedRunError:
        raise
    except (RecsysError, OSError) as error:
        warning = f"the lists are published, but the report could not be written: {redact(str(error))}"
        return CommandResult("report", status="failed", warnings=[warning])
