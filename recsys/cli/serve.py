"""Commands that use the models: recommend, similar, audience, complete, evaluate, and others.

In: command lines. Out: results of the pipeline, which is imported only when a command runs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import CommandContext, command
from recsys.pipeline.result import CommandResult


class SplitMethod(StrEnum):
    """Train-test splits."""

    time = "time"
    last = "last"
    users = "users"


class ExecutionEngine(StrEnum):
    """Executors."""

    local = "local"
    processes = "processes"
    ray = "ray"


class SearchMode(StrEnum):
    """Text search modes."""

    vector = "vector"
    lexical = "lexical"
    hybrid = "hybrid"


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    command(app, "recommend")(recommend)
    command(app, "publish")(publish)
    command(app, "rollback")(rollback)
    command(app, "similar")(similar)
    command(app, "audience")(audience)
    command(app, "complete")(complete)
    command(app, "evaluate")(evaluate)
    command(app, "report")(report)


def recommend(
    context: CommandContext,
    user: Annotated[list[str] | None, typer.Option(help="Only show this user's recommendations; repeatable.")] = None,
    users: Annotated[
        Path | None, typer.Option(help="Only show recommendations of the users in this file, one id per line.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Recommendations per user.")] = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Write the run without publishing it.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Resume an unfinished run with the same data and settings.")
    ] = True,
    full: Annotated[
        bool, typer.Option("--full", help="Recompute all lists although recommend.incremental is on.")
    ] = False,
    engine: Annotated[ExecutionEngine | None, typer.Option(help="Executor of the run.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of processes or Ray actors.")] = None,
    shard_index: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="I",
            help="Compute only part I of N of the run, counted from 0; needs --num-shards.",
        ),
    ] = None,
    num_shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of processes, on any machines, that compute the run together.",
        ),
    ] = None,
) -> CommandResult:
    """Compute recommendations for all users, write and publish them as a run; or show those of some users."""
    from recsys.pipeline.recommend import RecommendOptions, read_user_ids, show_recommendations
    from recsys.pipeline.recommend import recommend as run_recommend

    user_ids = read_user_ids(user or (), users) if user or users else None
    part, parts = _parse_part(shard_index, num_shards)
    flags = {"recommend.k": k, "recommend.engine": engine.value if engine else None, "recommend.workers": workers}
    with context.open_project(flags, writes=user_ids is None and not parts, part=parts > 0) as project:
        if user_ids is not None:
            return show_recommendations(project, user_ids)
        options = RecommendOptions(publish=not no_publish, resume=resume, full=full, part=part, parts=parts)
        return run_recommend(project, options)


def _parse_part(index: int | None, number: int | None) -> tuple[int, int]:
    """Return part and number of parts; (0, 0) if the run is not split into parts."""
    from recsys.errors import UsageError

    if index is None and number is None:
        return 0, 0
    if index is None or number is None:
        raise UsageError("--shard-index and --num-shards go together: part I of N, numbered from 0")
    if index >= number:
        raise UsageError(f"--shard-index {index} of {number} does not exist; parts are numbered from 0")
    return index, number


def publish(
    context: CommandContext,
    run: Annotated[str | None, typer.Argument(help="Run id; default the latest finished run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish even if a guard fails.")] = False,
    yes: Yes = False,
) -> CommandResult:
    """Publish a finished run, so that consumers read its recommendations."""
    from recsys.pipeline.runs import publish as publish_run

    if force:
        context.confirm("Publish even if a guard fails?", yes=yes)
    with context.open_project() as project:
        return publish_run(project, run, force=force)


def rollback(context: CommandContext, yes: Yes = False) -> CommandResult:
    """Publish the previously published run again."""
    from recsys.pipeline.runs import rollback as roll_back_run

    context.confirm("Roll back to the previously published run?", yes=yes)
    with context.open_project() as project:
        return roll_back_run(project)


def similar(
    context: CommandContext,
    product: Annotated[list[str] | None, typer.Option(help="Similar to this product (id); repeatable.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Similar to this text; repeatable.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Similar to this image; repeatable.")] = None,
    not_product: Annotated[list[str] | None, typer.Option(help="But not similar to this product; repeatable.")] = None,
    not_text: Annotated[
        list[str] | None,
        typer.Option(help="But not similar to this text, e.g. red; repeatable."),
    ] = None,
    not_image: Annotated[list[Path] | None, typer.Option(help="But not similar to this image; repeatable.")] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=N",
            help="Weight of an input kind, e.g. text=2, not-text=0.5, or product=2,1 for two products; default 1.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 10,
    where: Annotated[
        str | None, typer.Option(help="Only products with, e.g. \"price < 50 and brand = 'Aro'\".")
    ] = None,
    search: Annotated[SearchMode | None, typer.Option(help="Search text by meaning, by words, or both.")] = None,
    variants: Annotated[
        bool | None,
        typer.Option("--variants/--no-variants", help="Return all variants of a product."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Run a file of queries with columns query_id, product, text, image, where, not_product, not_text, "
            "not_image.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write results to FILE.parquet, .csv or .jsonl.",
        ),
    ] = None,
) -> CommandResult:
    """Find products similar to products, texts, images or a mix of them; or run a file of such queries."""
    from recsys.errors import UsageError
    from recsys.pipeline.similar import find_similar, parse_query

    minus = {"product": not_product, "text": not_text, "image": not_image}
    query_options = (product, text, image, *minus.values(), weight, where)
    with context.open_project(
        {"search.mode": search.value if search else None, "search.variants": variants}, writes=False
    ) as project:
        if queries is not None:
            from recsys.pipeline.similar_batch import search_file

            if any(query_options):
                raise UsageError(
                    "--queries can be combined only with -k, -o, --search and --variants; put the queries into the file"
                )
            return search_file(project, queries, k=k, output=output)
        query = parse_query(product=product, text=text, image=image, minus=minus, weights=weight or ())
        return find_similar(project, query, k=k, where=where, output=output)


def audience(
    context: CommandContext,
    product: Annotated[str, typer.Argument(help="Id of the product.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Number of users.")] = 100,
) -> CommandResult:
    """Find the users most likely to buy a product."""
    from recsys.pipeline.audience import show_audience as find_audience

    with context.open_project(writes=False) as project:
        return find_audience(project, product, k=k)


def complete(
    context: CommandContext,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Only this attribute, e.g. category, brand, colour; repeatable.")
    ] = None,
    min_confidence: Annotated[float, typer.Option(min=0, max=1, metavar="P", help="Minimum confidence.")] = 0.5,
) -> CommandResult:
    """Predict missing categories, brands and attributes with a confidence, and report the accuracy."""
    from recsys.pipeline.complete import complete_attributes

    with context.open_project() as project:
        return complete_attributes(project, attribute or (), min_confidence=min_confidence)


def evaluate(
    context: CommandContext,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Systems to compare, separated by commas, e.g. recsys,popular-7d,item-item."
        ),
    ] = None,
    split: Annotated[SplitMethod | None, typer.Option(help="Train-test split.")] = None,
    test_days: Annotated[
        float | None, typer.Option(min=0.01, help="Days at the end of the log held out by the split by time.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", "--k", min=1, help="Length of the evaluated lists.")] = None,
    sampled: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Also rank the purchases among N sampled products; such metrics are labelled.",
        ),
    ] = None,
    check_leaks: Annotated[
        bool, typer.Option("--check-leaks", help="First check that no system uses the holdout.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write all metrics to FILE.csv or .parquet.")
    ] = None,
) -> CommandResult:
    """Evaluate on held-out purchases and compare with baselines, with confidence intervals and tests."""
    from recsys.pipeline.evaluate import run_evaluation

    flags = {
        "evaluate.models": models.split(",") if models is not None else None,
        "evaluate.split": split.value if split else None,
        "evaluate.test_days": test_days,
        "evaluate.k": k,
        "evaluate.sampled": sampled,
    }
    with context.open_project(flags, writes=False) as project:
        return run_evaluation(project, check_leaks=check_leaks, output=output, all_figures=context.json)


def report(
    context: CommandContext,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write to FILE.html; default [report] path in the project.",
        ),
    ] = None,
) -> CommandResult:
    """Write a self-contained HTML report on data, models and recommendations, and its numbers as JSON."""
    from recsys.pipeline.report import write_report

    with context.open_project(writes=False) as project:
        return write_report(project, output)
