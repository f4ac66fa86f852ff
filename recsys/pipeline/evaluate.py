"""The `evaluate` command: holds purchases out, trains without them, and compares recsys with baselines.

In: an open project. Out: a summary, tables of systems and metrics with 95 % intervals. Its models are trained in a
folder of their own and never put into use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from recsys.data.tfidf import product_tfidf
from recsys.errors import UsageError
from recsys.evaluate import registry
from recsys.evaluate.backtest import EvaluationResult, Evaluator
from recsys.evaluate.baselines import System
from recsys.evaluate.split import Split
from recsys.evaluate.summary import summary_line
from recsys.pipeline.evaluate_leaks import check_leakage
from recsys.pipeline.evaluate_result import save_evaluation
from recsys.pipeline.evaluate_systems import create_training_view, split_interactions, train_on_past
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.train import require_training_data

FORMATS = (".csv", ".parquet")
_MAIN_METRICS = ("ndcg@10", "hr@10", "mrr@10", "map@")


def run_evaluation(
    project: Project, *, check_leaks: bool = False, output: Path | None = None, all_figures: bool = True
) -> CommandResult:
    """Compare recsys with the baselines.

    Args:
        project: the project; its [evaluate] settings select split, baselines and metrics.
        check_leaks: first build the systems on shops that differ in the held-out data, and stop if one notices.
        output: .csv or .parquet file for all figures.
        all_figures: return all figures, for programs; else the summary first, and pairs and slices by NDCG only.

    Raises:
        UsageError: an unknown model, a wrong file ending, or a log that cannot be split.
        RecsysError: a system sees held-out data.
    """
    if output is not None and output.suffix not in FORMATS:
        raise UsageError(f"cannot write '{output}': give a file that ends in {' or '.join(FORMATS)}")
    names = registry.resolve_names(project.settings.evaluate.models)
    held_out = _split(project)
    tables: list[Table] = []
    if check_leaks:
        tables.append(check_leakage(project, names))
    result = _compare(project, held_out, names)
    summary = summary_line(result, ours=registry.OWN_SYSTEM)
    main = _main_table("all test users, value [95 % interval]", result.metrics, _MAIN_METRICS)
    if all_figures:  # programs take the first table for the rows
        first = [main, Table("verdict", ("verdict",), [(summary,)])]
        last = [Table.from_frame("paired", result.comparisons), *tables, Table.from_frame("by slice", result.metrics)]
    else:  # people read from the top
        first = [Table("", ("verdict",), [(summary,)]), main]
        last = [*_paired_table(result.comparisons), _slice_table(result.metrics), *tables]
    tables = [*first, _other_table(result.metrics), *_sampled_table(result.metrics), *last]
    tables.append(project.stage_table())
    artifacts: dict[str, Path] = {}
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write = result.metrics.write_csv if output.suffix == ".csv" else result.metrics.write_parquet
        write(output)
        artifacts["figures"] = output
    counts = {"test_users": len(held_out.cases), "train_events": len(held_out.train)}
    artifacts["evaluation"] = save_evaluation(project, result, summary=summary, **counts)
    return CommandResult("evaluate", counts=counts, artifacts=artifacts, tables=tables)


def evaluate_to_frame(project: Project) -> pl.DataFrame:
    """Run the evaluation and return its figures: system, slice, metric, value, low, high, users.

    Raises:
        UsageError: an unknown model, or a log that cannot be split.
    """
    names, held_out = registry.resolve_names(project.settings.evaluate.models), _split(project)
    result = _compare(project, held_out, names)
    summary = summary_line(result, ours=registry.OWN_SYSTEM)
    save_evaluation(project, result, summary=summary, test_users=len(held_out.cases), train_events=len(held_out.train))
    return result.metrics


def _split(project: Project) -> Split:
    require_training_data(project.dataset)
    return split_interactions(project, project.dataset.interactions)


def _compare(project: Project, held_out: Split, names: Sequence[str]) -> EvaluationResult:
    settings, catalogue = project.settings, project.dataset.catalogue
    view = create_training_view(project, catalogue, held_out)
    systems: dict[str, System] = {}
    for name in names:
        if name == registry.OWN_SYSTEM:
            systems[name] = train_on_past(project, view)
        else:
            with project.progress.stage("learn baselines"):
                display_name, system = registry.create_baseline(name, view)
                systems[display_name] = system
    evaluator = Evaluator(
        view.catalogue,
        held_out.train,
        k=settings.evaluate.k,
        samples=settings.evaluate.bootstrap,
        seed=settings.training.seed,
        cutoff=held_out.cutoff,
        n_negatives=settings.evaluate.sampled,
        content=product_tfidf(catalogue),
        reference=registry.OWN_SYSTEM,
        target=view.target,
    )
    with project.progress.stage("compare"):
        return evaluator.evaluate(held_out.cases, systems)


def _format_interval(row: Mapping[str, float]) -> str:
    return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def _main_table(title: str, frame: pl.DataFrame, metrics: Sequence[str]) -> Table:
    """One row per system: the main metrics over all test users with their intervals."""
    all_users = frame.filter(pl.col("slice") == "all")
    metric_names = all_users["metric"].unique(maintain_order=True).to_list()
    columns = [name for name in metric_names if name.startswith(tuple(metrics)) and "sampled" not in name]
    return _pivot(title, all_users, columns, interval=True)


def _other_table(frame: pl.DataFrame) -> Table:
    """One row per system: the other metrics over all test users, without those that no system has."""
    all_users = frame.filter((pl.col("slice") == "all") & pl.col("value").is_finite().any().over("metric"))
    metric_names = all_users["metric"].unique(maintain_order=True).to_list()
    columns = [name for name in metric_names if not name.startswith(_MAIN_METRICS) and "sampled" not in name]
    return _pivot("other measures, all test users", all_users, columns, interval=False)


def _sampled_table(frame: pl.DataFrame) -> list[Table]:
    all_users = frame.filter(pl.col("slice") == "all")
    columns = [name for name in all_users["metric"].unique(maintain_order=True).to_list() if "sampled" in name]
    columns = [name for name in columns if name.startswith(_MAIN_METRICS)]
    return [_pivot("among sampled negatives, all test users", all_users, columns, interval=True)] if columns else []


def _pivot(title: str, figures: pl.DataFrame, metrics: Sequence[str], *, interval: bool) -> Table:
    rows = []
    for name in figures["system"].unique(maintain_order=True).to_list():
        by_metric = {row["metric"]: row for row in figures.filter(pl.col("system") == name).iter_rows(named=True)}
        cells = [_format_interval(by_metric[metric]) if interval else by_metric[metric]["value"] for metric in metrics]
        rows.append((name, *cells))
    return Table(title, ("system", *metrics), rows)


def _paired_table(frame: pl.DataFrame) -> list[Table]:
    """NDCG@10 of recsys minus that of each baseline, with and without repeat purchases."""
    ndcg = frame.filter(pl.col("metric") == "ndcg@10").drop("metric")
    return [Table.from_frame("NDCG@10 in pairs, same users", ndcg)] if ndcg.height else []


def _slice_table(frame: pl.DataFrame) -> Table:
    """NDCG@10 by slice, one column per system."""
    ndcg = frame.filter(pl.col("metric") == "ndcg@10")
    names = ndcg["system"].unique(maintain_order=True).to_list()
    rows = []
    for name in ndcg["slice"].unique(maintain_order=True).to_list():
        in_slice = ndcg.filter(pl.col("slice") == name)
        value = dict(zip(in_slice["system"].to_list(), in_slice["value"].to_list(), strict=True))
        rows.append((name, int(in_slice["users"][0]), *(value[system] for system in names)))
    return Table("NDCG@10 by slice", ("slice", "users", *names), rows)
