"""Commands that serve: recommend, publish, rollback, similar, audience, complete, evaluate, report.

In: command lines. Out: reports of the pipeline; every import of it waits until a command runs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import CommandContext, command
from recsys.pipeline.result import CommandResult


class SplitMethod(StrEnum):
    """What to hold back."""

    time = "time"
    last = "last"
    users = "users"


class ExecutionEngine(StrEnum):
    """Where lists are made."""

    local = "local"
    processes = "processes"
    ray = "ray"


class SearchMode(StrEnum):
    """How a text is looked for."""

    vector = "vector"
    lexical = "lexical"
    hybrid = "hybrid"


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "recommend")(recommend)
    command(app, "publish")(publish)
    command(app, "rollback")(rollback)
    command(app, "similar")(similar)
    command(app, "audience")(audience)
    command(app, "complete")(complete)
    command(app, "evaluate")(evaluate)
    command(app, "report")(report)


def recommend(
    call: CommandContext,
    user: Annotated[list[str] | None, typer.Option(help="Only show this user's list; repeatable.")] = None,
    users: Annotated[
        Path | None, typer.Option(help="Only show the lists of the users in this file, one a line.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Products a list.")] = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Write the run, leave the published one.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with an unfinished run of the same data and settings.")
    ] = True,
    full: Annotated[
        bool, typer.Option("--full", help="Make every list anew although recommend.incremental is on.")
    ] = False,
    engine: Annotated[ExecutionEngine | None, typer.Option(help="Where lists are made.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many processes or Ray actors.")] = None,
    shard_index: Annotated[
        int | None,
        typer.Option(min=0, metavar="I", help="Make only part I of N of the run, from 0; with --num-shards."),
    ] = None,
    num_shards: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many processes, on any machines, make the run together.")
    ] = None,
) -> CommandResult:
    """Make the list of every user, write it as a run, publish it; or show the lists of some users."""
    from recsys.pipeline import recommend as lists

    only = lists.read_user_ids(user or (), users) if user or users else None
    part, parts = _part(shard_index, num_shards)
    flags = {"recommend.k": k, "recommend.engine": engine.value if engine else None, "recommend.workers": workers}
    with call.open_project(flags, writes=only is None and not parts, part=parts > 0) as bench:
        if only is not None:
            return lists.show_recommendations(bench, only)
        way = lists.RecommendOptions(publish=not no_publish, resume=resume, full=full, part=part, parts=parts)
        return lists.recommend(bench, way)


def _part(index: int | None, number: int | None) -> tuple[int, int]:
    """Which part of how many; (0, 0) when the run is not made in parts."""
    from recsys.errors import UsageError

    if index is None and number is None:
        return 0, 0
    if index is None or number is None:
        raise UsageError("--shard-index and --num-shards go together: part I of N, numbered from 0")
    if index >= number:
        raise UsageError(f"--shard-index {index} of {number} does not exist; parts are numbered from 0")
    return index, number


def publish(
    call: CommandContext,
    run: Annotated[str | None, typer.Argument(help="Run id; the newest finished one when none is named.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish although a guard refuses.")] = False,
    yes: Yes = False,
) -> CommandResult:
    """Make a finished run the one that consumers read."""
    from recsys.pipeline import runs as ledger

    if force:
        call.confirm("Publish past the guards?", yes=yes)
    with call.open_project() as bench:
        return ledger.publish(bench, run, force=force)


def rollback(call: CommandContext, yes: Yes = False) -> CommandResult:
    """Go back to the run that was published before."""
    from recsys.pipeline import runs as ledger

    call.confirm("Go back to the run before?", yes=yes)
    with call.open_project() as bench:
        return ledger.rollback(bench)


def similar(
    call: CommandContext,
    product: Annotated[list[str] | None, typer.Option(help="Like this product (its id); repeatable.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Like this text; repeatable.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Like this picture; repeatable.")] = None,
    not_product: Annotated[list[str] | None, typer.Option(help="But not like this product; repeatable.")] = None,
    not_text: Annotated[list[str] | None, typer.Option(help="But not like this text, e.g. red; repeatable.")] = None,
    not_image: Annotated[list[Path] | None, typer.Option(help="But not like this picture; repeatable.")] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=N",
            help="How much a kind counts in a mix, e.g. text=2, not-text=0.5, or product=2,1 for two; 1 by default.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    where: Annotated[
        str | None, typer.Option(help="Only products with, e.g. \"price < 50 and brand = 'Aro'\".")
    ] = None,
    search: Annotated[
        SearchMode | None, typer.Option(help="How to take a text: by meaning, by its words, or both.")
    ] = None,
    variants: Annotated[
        bool | None, typer.Option("--variants/--no-variants", help="Show all variants of a product, not the best one.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answer a file of queries: query_id, product, text, image, where, not_product, not_text, not_image.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to FILE.parquet, .csv or .jsonl.")
    ] = None,
) -> CommandResult:
    """Find products like a product, a text, a picture, or a mix of them; or answer a file of such queries."""
    from recsys.errors import UsageError
    from recsys.pipeline import similar as finding

    minus = {"product": not_product, "text": not_text, "image": not_image}
    own = (product, text, image, *minus.values(), weight, where)
    with call.open_project(
        {"search.mode": search.value if search else None, "search.variants": variants}, writes=False
    ) as bench:
        if queries is not None:
            from recsys.pipeline import similar_batch as batch

            if any(own):
                raise UsageError(
                    "--queries goes with -k, -o, --search and --variants alone; the file says what to find"
                )
            return batch.search_file(bench, queries, k=k, output=output)
        query = finding.parse_query(product=product, text=text, image=image, minus=minus, weights=weight or ())
        return finding.find_similar(bench, query, k=k, where=where, output=output)


def audience(
    call: CommandContext,
    product: Annotated[str, typer.Argument(help="Id of the product.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many users.")] = 100,
) -> CommandResult:
    """Find the users most likely to want a product."""
    from recsys.pipeline import audience as who

    with call.open_project(writes=False) as bench:
        return who.audience(bench, product, k=k)


def complete(
    call: CommandContext,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Only this one, e.g. category, brand, colour; repeatable.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="P", help="Leave guesses out that are less sure than this.")
    ] = 0.5,
) -> CommandResult:
    """Guess missing categories, brands and attributes, say how often that is right, write them with a confidence."""
    from recsys.pipeline import complete as gaps

    with call.open_project() as bench:
        return gaps.complete_attributes(bench, attribute or (), min_confidence=min_confidence)


def evaluate(
    call: CommandContext,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Systems to compare, with commas between, e.g. recsys,popular-7d,item-item."
        ),
    ] = None,
    split: Annotated[SplitMethod | None, typer.Option(help="What is held back as the test.")] = None,
    test_days: Annotated[
        float | None, typer.Option(min=0.01, help="Last days held out as the test of the split by time.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", "--k", min=1, help="Length of the judged lists.")] = None,
    sampled: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Also rank among N drawn products; labelled as such.")
    ] = None,
    check_leaks: Annotated[
        bool, typer.Option("--check-leaks", help="First check that no baseline sees what is held back.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write all figures to FILE.csv or .parquet.")
    ] = None,
) -> CommandResult:
    """Hold purchases back, recommend without them, compare with baselines; says who is ahead and how sure that is."""
    from recsys.pipeline import evaluate as judgement

    flags = {
        "evaluate.models": models.split(",") if models is not None else None,
        "evaluate.split": split.value if split else None,
        "evaluate.test_days": test_days,
        "evaluate.k": k,
        "evaluate.sampled": sampled,
    }
    with call.open_project(flags, writes=False) as bench:
        return judgement.run_evaluation(bench, check_leaks=check_leaks, output=output, all_figures=call.json)


def report(
    call: CommandContext,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write FILE.html; default [report] path in the project."),
    ] = None,
) -> CommandResult:
    """Write one HTML page that shows what the recommender knows and does, and its numbers as JSON beside it."""
    from recsys.pipeline import report as reporting

    with call.open_project(writes=False) as bench:
        return reporting.write_report(bench, output)
