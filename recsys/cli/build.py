"""Commands that build: demo, init, ingest, check, train, embed, cluster, index, run.

In: command lines. Out: reports of the pipeline; every import of it waits until a command runs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import CommandContext, command
from recsys.execution import torchrun as crew
from recsys.pipeline.result import CommandResult


class InputTable(StrEnum):
    """The canonical input tables."""

    products = "products"
    events = "events"
    users = "users"


class TrainPart(StrEnum):
    """What there is to train."""

    encoder = "encoder"
    ranker = "ranker"


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class IndexKind(StrEnum):
    """Kinds of vector index."""

    auto = "auto"
    flat = "flat"
    ivf = "ivf"
    hnsw = "hnsw"
    pq = "pq"


class ClusterMethod(StrEnum):
    """Ways of grouping products."""

    kmeans = "kmeans"
    hdbscan = "hdbscan"
    agglomerative = "agglomerative"


class MapMethod(StrEnum):
    """Kinds of map."""

    pca = "pca"
    tsne = "tsne"
    umap = "umap"
    none = "none"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "demo")(demo)
    command(app, "init")(init)
    command(app, "ingest")(ingest)
    command(app, "check")(check)
    command(app, "train")(train)
    command(app, "embed")(embed)
    command(app, "cluster")(cluster)
    command(app, "index")(index)
    command(app, "run")(run)


def demo(
    call: CommandContext,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to make the shop.")] = Path("demo-shop"),
    products: Annotated[int, typer.Option(min=20, help="Products to draw.")] = 600,
    users: Annotated[int, typer.Option(min=10, help="Users to draw.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawing.")] = 0,
) -> CommandResult:
    """Draw a shop, run the whole line on it, show recommendations with reasons."""
    from recsys.pipeline import demo as showcase

    return showcase.run_demo(
        directory, call.progress(), products=products, users=users, seed=seed, database=call.database
    )


def init(
    call: CommandContext,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Project folder to make.")] = None,
) -> CommandResult:
    """Make a project folder with a commented recsys.toml, and the tables in the database."""
    from recsys.pipeline import init as project

    return project.init_project(directory or call.project_dir, database=call.database)


def ingest(
    call: CommandContext,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Files or folders to read.")] = None,
    preset: Annotated[str | None, typer.Option(help="Shape of the files, e.g. hm, personalize.")] = None,
    table: Annotated[InputTable | None, typer.Option("--as", help="What the files hold.")] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=COLUMN", help="Canonical name = their column; repeatable."),
    ] = None,
    images: Annotated[list[Path] | None, typer.Option(help="Folder or zip of pictures; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge the rows, write nothing.")] = False,
    from_sql: Annotated[str | None, typer.Option(metavar="URL", help="Read somebody's own database instead.")] = None,
    products_query: Annotated[str | None, typer.Option(help="SELECT of the products, or @file.sql.")] = None,
    events_query: Annotated[str | None, typer.Option(help="SELECT of the events, or @file.sql.")] = None,
    users_query: Annotated[str | None, typer.Option(help="SELECT of the users, or @file.sql.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Of a database read also what was read before.")] = False,
) -> CommandResult:
    """Read products, events, users and pictures into the store; rows that cannot be used go to rejected_rows."""
    from recsys.pipeline import ingest as intake

    wanted = intake.IngestRequest.of(
        paths or (),
        preset=preset,
        table=table.value if table else None,
        mapping=mapping or (),
        images=images or (),
        sql=from_sql is not None,
        full=full,
    )
    source = {
        "source.url": from_sql,
        "source.products_query": products_query,
        "source.events_query": events_query,
        "source.users_query": users_query,
    }
    with call.open_project(source, writes=not dry_run) as bench:
        return intake.ingest(bench, wanted, dry_run=dry_run)


def check(
    call: CommandContext,
    odd: Annotated[
        bool, typer.Option("--odd", help="Also find products whose text, picture and attributes disagree.")
    ] = False,
) -> CommandResult:
    """Say what the store holds: counts, gaps, duplicates, time span, rejects, what each part of the model gets."""
    from recsys.pipeline import check as checking

    with call.open_project(writes=False) as bench:
        report = checking.check_data(bench)
        if odd:
            from recsys.pipeline import complete as gaps

            return gaps.add_inconsistencies(bench, report)
        return report


def train(
    call: CommandContext,
    part: Annotated[TrainPart | None, typer.Argument(help="Only this part; both when none is named.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over products and users; with the options below over products alone."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Start from a model folder, e.g. another shop's; or 'current'."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of some products to learn; goes on from a model.")
    ] = None,
    distill: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Train a smaller encoder to be like this one; or 'current'.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where to train.")] = None,
) -> CommandResult:
    """Train the product and user encoders, and fit the ranker."""
    from recsys.pipeline import train as training
    from recsys.pipeline.train_recipe import TrainingRecipe

    other = (labels, start, distill) != (None, None, None)
    flags = {
        "training.epochs": None if other else epochs,
        "training.user_epochs": None if other else epochs,
        "training.device": device.value if device else None,
    }
    with call.open_project(flags, writes=not crew.is_helper()) as bench:
        way = TrainingRecipe(
            bench, labels=labels, initial_model=start, distill=distill, epochs=epochs if other else None
        )
        return training.train(bench, parts=(part.value,) if part else training.PARTS, resume=resume, way=way)


def embed(
    call: CommandContext,
    full: Annotated[bool, typer.Option("--full", help="Encode every product again.")] = False,
    fail_if_noop: Annotated[bool, typer.Option("--fail-if-noop", help="Exit 5 when there was nothing to do.")] = False,
) -> CommandResult:
    """Encode the products whose content or model changed."""
    from recsys.pipeline import embed as space

    with call.open_project() as bench:
        return space.embed_products(bench, full=full, fail_if_noop=fail_if_noop)


def cluster(
    call: CommandContext,
    method: Annotated[ClusterMethod | None, typer.Option(help="How to group.")] = None,
    number: Annotated[int | None, typer.Option(min=1, help="Number of groups; chosen when not given.")] = None,
    drawn: Annotated[MapMethod | None, typer.Option("--map", help="Kind of map to draw.")] = None,
) -> CommandResult:
    """Group the products, label the groups, draw a map of them; groups keep their ids."""
    from recsys.pipeline import cluster as grouping

    flags = {"cluster.method": method.value if method else None, "cluster.map": drawn.value if drawn else None}
    with call.open_project({**flags, "cluster.number": number}) as bench:
        return grouping.cluster_products(bench)


def index(
    call: CommandContext,
    kind: Annotated[IndexKind | None, typer.Option(help="Kind of index.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Build it anew, also where little changed.")] = False,
) -> CommandResult:
    """Bring the vector index up to date, or build it, and measure its recall and speed against exact search."""
    from recsys.pipeline import index as indexing

    with call.open_project({"index.kind": kind.value if kind else None}) as bench:
        return indexing.build_index(bench, full=full)


def run(
    call: CommandContext,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, do nothing.")] = False,
) -> CommandResult:
    """The nightly chain: ingest, train when stale, embed, cluster, index, recommend, publish, report."""
    from recsys.pipeline import run as night

    with call.open_project(writes=not dry_run) as bench:
        return night.plan_run(bench) if dry_run else night.run_nightly(bench)
