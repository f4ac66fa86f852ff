"""The `evaluate` command: holds purchases out, trains without them, and compares recsys with baselines.

In: an open project. Out: a summary, tables of systems and metrics with 95 % intervals. Its models are trained in a
folder of their own and never put into use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.data.tfidf import product_tfidf
from recsys.errors import DataContractError, RecsysError, UsageError
from recsys.evaluate import registry
from recsys.evaluate.backtest import EvaluationResult, Evaluator
from recsys.evaluate.baselines import System
from recsys.evaluate.leakage import ShopView, find_leaks, perturb_holdout
from recsys.evaluate.split import Split, create_split
from recsys.evaluate.summary import summary_line
from recsys.evaluate.training_view import TrainingView
from recsys.pipeline.evaluate_result import save_evaluation
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.train import require_training_data
from recsys.pipeline.train_job import TrainingJob
from recsys.recommend.recommender import Recommender
from recsys.types import IntArray

FORMATS = (".csv", ".parquet")
_MAX_LEAK_USERS = 500
"""Users whose recommendations are compared in the leak check."""
_MAIN_METRICS = ("ndcg@10", "hr@10", "mrr@10", "map@")


def run_evaluation(
    project: Project, *, check_leaks: bool = False, output: Path | None = None, all_figures: bool = True
) -> CommandResult:
    """Compare recsys with the baselines.

    Args:
        project: the project; its [evaluate] settings select split, baselines and metrics.
        check_leaks: first build the baselines on shops that differ in the held-out data, and stop if one notices.
        output: .csv or .parquet file for all figures.
        all_figures: return all figures, for programs; else the summary first, and pairs and slices by NDCG only.

    Raises:
        UsageError: an unknown model, a wrong file ending, or a log that cannot be split.
        RecsysError: a baseline sees held-out data.
    """
    if output is not None and output.suffix not in FORMATS:
        raise UsageError(f"cannot write '{output}': give a file that ends in {' or '.join(FORMATS)}")
    names = registry.resolve_names(project.settings.evaluate.models)
    held_out = _split(project)
    tables: list[Table] = []
    if check_leaks:
        tables.append(_check_leakage(project, held_out, names))
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


def split_interactions(project: Project, interactions: Interactions) -> Split:
    """Split a log as [evaluate] says."""
    settings = project.settings.evaluate
    return create_split(
        settings.split,
        interactions,
        days=settings.test_days,
        max_users=settings.max_users,
        seed=project.settings.training.seed,
    )


def _training_view(project: Project, catalogue: Catalogue, held_out: Split) -> TrainingView:
    return TrainingView.from_catalogue(
        catalogue, held_out.train, now=held_out.cases.now, cutoff=held_out.cutoff, seed=project.settings.training.seed
    )


def _compare(project: Project, held_out: Split, names: Sequence[str]) -> EvaluationResult:
    settings, catalogue = project.settings, project.dataset.catalogue
    view = _training_view(project, catalogue, held_out)
    systems: dict[str, System] = {}
    for name in names:
        if name == registry.OWN_SYSTEM:
            systems[name] = train_on_past(project, view)
        else:
            with project.progress.stage("learn baselines"):
                display_name, system = registry.create_baseline(name, view)
                systems[display_name] = system
    evaluator = Evaluator(
        catalogue,
        held_out.train,
        k=settings.evaluate.k,
        samples=settings.evaluate.bootstrap,
        seed=settings.training.seed,
        cutoff=held_out.cutoff,
        n_negatives=settings.evaluate.sampled,
        content=product_tfidf(catalogue),
        reference=registry.OWN_SYSTEM,
    )
    with project.progress.stage("compare"):
        return evaluator.evaluate(held_out.cases, systems)


def train_on_past(project: Project, view: TrainingView) -> System:
    """Train recsys on the training view alone.

    Encoder and ranker learn from the products that existed at the cutoff; products created since are encoded by the
    trained encoder, and their words stay out of the word counts.

    Raises:
        DataContractError: there is too little data before the test to train on.
    """
    settings = project.settings
    catalogue, events = view.without_new_products()
    job = TrainingJob(project, catalogue, events, settings.artifacts / "evaluation")
    try:
        model, table = job.train_encoder()
    except DataContractError as error:
        raise DataContractError(
            f"recsys cannot be trained on what is before the test: {error}, or compare the others alone with --models"
        ) from None
    ranker = job.fit_ranker(model, table.vectors)
    content = np.array(table.vectors)
    if not view.known.all():
        content = np.zeros((len(view.catalogue), table.vectors.shape[1]), np.float32)
        content[view.known] = table.vectors
        content[~view.known] = model.encode(view.catalogue, np.flatnonzero(~view.known))
    job.clean_up()
    recommender = Recommender.build(
        view.with_blank_new_texts(),
        view.train,
        model=model,
        content=content,
        ranker=ranker,
        recommend=settings.recommend,
        rules=settings.rules,
        users=project.dataset.users,
        now=view.now,
    )

    def recommend_rows(histories: Histories, k: int) -> IntArray:
        return recommender.recommend_rows(histories, k)

    return recommend_rows


def _check_leakage(project: Project, held_out: Split, names: Sequence[str]) -> Table:
    """Check that no baseline notices a change of the held-out data.

    Raises:
        RecsysError: one does.
    """
    dataset, seed = project.dataset, project.settings.training.seed
    views = perturb_holdout(dataset.catalogue, dataset.interactions, held_out, seed=seed)
    histories = held_out.cases.take(np.arange(min(_MAX_LEAK_USERS, len(held_out.cases)))).histories
    rows, leaking = [], []
    with project.progress.stage("check for leaks"):
        for name in (name for name in names if name != registry.OWN_SYSTEM):

            def build(shop: ShopView, name: str = name) -> System:
                return registry.create_baseline(
                    name, _training_view(project, shop.catalogue, _split_again(project, shop, held_out))
                )[1]

            leaks = find_leaks(build, views, histories)
            leaking += [f"{name} ({', '.join(leaks)})"] if leaks else []
            rows.append((name, ", ".join(list(views)[1:]), ", ".join(leaks) or "nothing"))
    if leaking:
        raise RecsysError(
            f"these systems see what is held back: {'; '.join(leaking)}; their figures would be wrong, report this"
        )
    return Table("leak check: changes of what is held back", ("system", "changed", "noticed"), rows)


def _split_again(project: Project, shop: ShopView, held_out: Split) -> Split:
    """Split a perturbed shop like the real one: at the same cutoff, or by the same rule."""
    if held_out.cutoff is None:
        return split_interactions(project, shop.interactions)
    return Split(
        held_out.method,
        shop.interactions.split(held_out.cutoff)[0],
        held_out.cases,
        held_out.cutoff,
        shop.interactions.time >= held_out.cutoff,
    )


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
