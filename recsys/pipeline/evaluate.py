"""Offline evaluation: hold purchases back, learn without them, recommend, compare with plain systems.

In: an open project. Out: a verdict, tables of systems and metrics with 95 % intervals; its models are trained aside, never put
to use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recsys.data.catalogue import Catalogue
from recsys.data.interactions import Histories, Interactions
from recsys.errors import DataContractError, RecsysError, UsageError
from recsys.evaluate import leakage as leaks
from recsys.evaluate import registry as systems
from recsys.evaluate.backtest import EvaluationResult, Evaluator
from recsys.evaluate.baselines import System, words
from recsys.evaluate.split import Split, split
from recsys.evaluate.summary import summary_line
from recsys.evaluate.training_view import TrainingView
from recsys.pipeline import evaluate_result as evidence
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table
from recsys.pipeline.train import require_training_data
from recsys.pipeline.train_job import TrainingJob
from recsys.recommend.recommender import Recommender
from recsys.types import IntArray

FORMATS = (".csv", ".parquet")
_LEAK_USERS = 500
_MAIN = ("ndcg@10", "hr@10", "mrr@10", "map@")


def run_evaluation(
    project: Project, *, check_leaks: bool = False, output: Path | None = None, all_figures: bool = True
) -> CommandResult:
    """Compare ours with the plain systems.

    Args:
        project: the project; what is compared how stands in its [evaluate] settings.
        check_leaks: first build the plain systems on shops that differ in what is held back, and stop if it shows.
        output: .csv or .parquet, where all figures go.
        whole: all figures, as programs want them; else the verdict first, and pairs and slices by NDCG alone.

    Raises:
        UsageError: an unknown model, a wrong ending of the file, or a log that cannot be parted.
        RecsysError: a plain system sees what is held back.
    """
    if output is not None and output.suffix not in FORMATS:
        raise UsageError(f"cannot write '{output}': give a file that ends in {' or '.join(FORMATS)}")
    names = systems.resolve_names(project.settings.evaluate.models)
    parted = _split(project)
    tables: list[Table] = []
    if check_leaks:
        tables.append(_check_leakage(project, parted, names))
    found = _compared(project, parted, names)
    said = summary_line(found, ours=systems.OWN_SYSTEM)
    main = _wide("all test users, value [95 % interval]", found.frame, _MAIN)
    if all_figures:  # programs take the first table for the rows
        first = [main, Table("verdict", ("verdict",), [(said,)])]
        last = [Table.from_frame("paired", found.paired), *tables, Table.from_frame("by slice", found.frame)]
    else:  # people read from the top
        first = [Table("", ("verdict",), [(said,)]), main]
        last = [*_paired(found.paired), _by_slice(found.frame), *tables]
    tables = [*first, _plain(found.frame), *_sampled(found.frame), *last]
    tables.append(project.stage_table())
    artifacts: dict[str, Path] = {}
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write = found.frame.write_csv if output.suffix == ".csv" else found.frame.write_parquet
        write(output)
        artifacts["figures"] = output
    counts = {"test_users": len(parted.cases), "train_events": len(parted.train)}
    artifacts["evaluation"] = evidence.save_evaluation(project, found, said=said, **counts)
    return CommandResult("evaluate", counts=counts, artifacts=artifacts, tables=tables)


def evaluate_frame(project: Project) -> pl.DataFrame:
    """The figures as a frame: system, slice, metric, value, low, high, users.

    Raises:
        UsageError: an unknown model, or a log that cannot be parted.
    """
    names, parted = systems.resolve_names(project.settings.evaluate.models), _split(project)
    found = _compared(project, parted, names)
    said = summary_line(found, ours=systems.OWN_SYSTEM)
    evidence.save_evaluation(project, found, said=said, test_users=len(parted.cases), train_events=len(parted.train))
    return found.frame


def _split(project: Project) -> Split:
    require_training_data(project.dataset)
    return split_interactions(project, project.dataset.interactions)


def split_interactions(project: Project, interactions: Interactions) -> Split:
    """Hold back what the settings say of a log."""
    asked = project.settings.evaluate
    return split(
        asked.split,
        interactions,
        days=asked.test_days,
        max_users=asked.max_users,
        seed=project.settings.training.seed,
    )


def _past(project: Project, catalogue: Catalogue, parted: Split) -> TrainingView:
    return TrainingView.of(
        catalogue, parted.train, now=parted.cases.now, cut=parted.cut, seed=project.settings.training.seed
    )


def _compared(project: Project, parted: Split, names: Sequence[str]) -> EvaluationResult:
    settings, catalogue = project.settings, project.dataset.catalogue
    past = _past(project, catalogue, parted)
    compared: dict[str, System] = {}
    for name in names:
        if name == systems.OWN_SYSTEM:
            compared[name] = train_on_past(project, past)
        else:
            with project.progress.stage("learn baselines"):
                shown, system = systems.create_baseline(name, past)
                compared[shown] = system
    judge = Evaluator(
        catalogue,
        parted.train,
        k=settings.evaluate.k,
        samples=settings.evaluate.bootstrap,
        seed=settings.training.seed,
        cut=parted.cut,
        sampled=settings.evaluate.sampled,
        content=words(catalogue),
        first=systems.OWN_SYSTEM,
    )
    with project.progress.stage("compare"):
        return judge.judge(parted.cases, compared)


def train_on_past(project: Project, past: TrainingView) -> System:
    """Our own system, trained on the past alone.

    Encoder and ranker learn from the products that were there; those created since are encoded by what was learned,
    and their words stay out of the word counts.

    Raises:
        DataContractError: there is too little before the test to train on.
    """
    settings = project.settings
    older, events = past.without_new_products()
    lesson = TrainingJob(project, older, events, settings.artifacts / "evaluation")
    try:
        model, table = lesson.train_encoder()
    except DataContractError as error:
        raise DataContractError(
            f"recsys cannot be trained on what is before the test: {error}, or compare the others alone with --models"
        ) from None
    blend = lesson.fit_ranker(model, table.vectors)
    content = np.array(table.vectors)
    if not past.known.all():
        content = np.zeros((len(past.catalogue), table.vectors.shape[1]), np.float32)
        content[past.known] = table.vectors
        content[~past.known] = model.encode(past.catalogue, np.flatnonzero(~past.known))
    lesson.clean_up()
    ours = Recommender.build(
        past.with_blank_new_texts(),
        past.train,
        model=model,
        content=content,
        blend=blend,
        recommend=settings.recommend,
        rules=settings.rules,
        users=project.dataset.users,
        now=past.now,
    )

    def ranked(histories: Histories, k: int) -> IntArray:
        return ours.recommend_rows(histories, k)

    return ranked


def _check_leakage(project: Project, parted: Split, names: Sequence[str]) -> Table:
    """Demand of each plain system that it does not notice a change of what is held back.

    Raises:
        RecsysError: one does.
    """
    dataset, seed = project.dataset, project.settings.training.seed
    changed = leaks.perturbed_views(dataset.catalogue, dataset.interactions, parted, seed=seed)
    some = parted.cases.take(np.arange(min(_LEAK_USERS, len(parted.cases)))).histories
    rows, wrong = [], []
    with project.progress.stage("check for leaks"):
        for name in (name for name in names if name != systems.OWN_SYSTEM):

            def build(world: leaks.ShopView, name: str = name) -> System:
                return systems.create_baseline(name, _past(project, world.catalogue, _again(project, world, parted)))[1]

            found = leaks.find_leaks(build, changed, some)
            wrong += [f"{name} ({', '.join(found)})"] if found else []
            rows.append((name, ", ".join(list(changed)[1:]), ", ".join(found) or "nothing"))
    if wrong:
        raise RecsysError(
            f"these systems see what is held back: {'; '.join(wrong)}; their figures would be wrong, report this"
        )
    return Table("leak check: changes of what is held back", ("system", "changed", "noticed"), rows)


def _again(project: Project, world: leaks.ShopView, parted: Split) -> Split:
    """Part a changed world as the real one is parted: at the same cut, or by the same rule."""
    if parted.cut is None:
        return split_interactions(project, world.interactions)
    return Split(
        parted.split,
        world.interactions.split(parted.cut)[0],
        parted.cases,
        parted.cut,
        world.interactions.time >= parted.cut,
    )


def _cell(row: Mapping[str, float]) -> str:
    return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"


def _wide(title: str, frame: pl.DataFrame, metrics: Sequence[str]) -> Table:
    """One row a system: some figures over all test users with their intervals."""
    whole = frame.filter(pl.col("slice") == "all")
    every = whole["metric"].unique(maintain_order=True).to_list()
    shown = [name for name in every if name.startswith(tuple(metrics)) and "sampled" not in name]
    return _pivot(title, whole, shown, interval=True)


def _plain(frame: pl.DataFrame) -> Table:
    """One row a system: the other figures over all test users; those that no system has are left out."""
    whole = frame.filter((pl.col("slice") == "all") & pl.col("value").is_finite().any().over("metric"))
    every = whole["metric"].unique(maintain_order=True).to_list()
    shown = [name for name in every if not name.startswith(_MAIN) and "sampled" not in name]
    return _pivot("other measures, all test users", whole, shown, interval=False)


def _sampled(frame: pl.DataFrame) -> list[Table]:
    whole = frame.filter(pl.col("slice") == "all")
    shown = [name for name in whole["metric"].unique(maintain_order=True).to_list() if "sampled" in name]
    shown = [name for name in shown if name.startswith(_MAIN)]
    return [_pivot("among sampled negatives, all test users", whole, shown, interval=True)] if shown else []


def _pivot(title: str, all_figures: pl.DataFrame, metrics: Sequence[str], *, interval: bool) -> Table:
    rows = []
    for name in all_figures["system"].unique(maintain_order=True).to_list():
        held = {row["metric"]: row for row in all_figures.filter(pl.col("system") == name).iter_rows(named=True)}
        cells = [_cell(held[metric]) if interval else held[metric]["value"] for metric in metrics]
        rows.append((name, *cells))
    return Table(title, ("system", *metrics), rows)


def _paired(frame: pl.DataFrame) -> list[Table]:
    """NDCG@10 of ours minus theirs, with repeat purchases and without."""
    some = frame.filter(pl.col("metric") == "ndcg@10").drop("metric")
    return [Table.from_frame("NDCG@10 in pairs, same users", some)] if some.height else []


def _by_slice(frame: pl.DataFrame) -> Table:
    """NDCG@10 by slice, a column a system."""
    some = frame.filter(pl.col("metric") == "ndcg@10")
    names = some["system"].unique(maintain_order=True).to_list()
    rows = []
    for name in some["slice"].unique(maintain_order=True).to_list():
        held = some.filter(pl.col("slice") == name)
        value = dict(zip(held["system"].to_list(), held["value"].to_list(), strict=True))
        rows.append((name, int(held["users"][0]), *(value[system] for system in names)))
    return Table("NDCG@10 by slice", ("slice", "users", *names), rows)
