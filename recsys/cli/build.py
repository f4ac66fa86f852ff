"""Commands that build: demo, init, ingest, check, train, embed, cluster, index, run.

In: command lines. Out: reports of the pipeline; every import of it waits until a command runs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import Call, command
from recsys.execution import torchrun as crew
from recsys.pipeline.result import Report


class InputTable(StrEnum):
    """The canonical input tables."""

    products = "products"
    events = "events"
    users = "users"


class Part(StrEnum):
    """What there is to train."""

    encoder = "encoder"
    ranker = "ranker"


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Kind(StrEnum):
    """Kinds of vector index."""

    auto = "auto"
    flat = "flat"
    ivf = "ivf"
    hnsw = "hnsw"
    pq = "pq"


class Method(StrEnum):
    """Ways of grouping products."""

    kmeans = "kmeans"
    hdbscan = "hdbscan"
    agglomerative = "agglomerative"


class Map(StrEnum):
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
    call: Call,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to make the shop.")] = Path("demo-shop"),
    products: Annotated[int, typer.Option(min=20, help="Products to draw.")] = 600,
    users: Annotated[int, typer.Option(min=10, help="Users to draw.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawing.")] = 0,
) -> Report:
    """Draw a shop, run the whole line on it, show recommendations with reasons."""
    from recsys.pipeline import demo as showcase

    return showcase.demo(directory, call.watch(), products=products, users=users, seed=seed, database=call.database)


def init(
    call: Call,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Project folder to make.")] = None,
) -> Report:
    """Make a project folder with a commented recsys.toml, and the tables in the database."""
    from recsys.pipeline import init as project

    return project.init(directory or call.project_dir, database=call.database)


def ingest(
    call: Call,
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
) -> Report:
    """Read products, events, users and pictures into the store; rows that cannot be used go to rejected_rows."""
    from recsys.pipeline import ingest as intake

    wanted = intake.Wanted.of(
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
    with call.bench(source, writes=not dry_run) as bench:
        return intake.ingest(bench, wanted, dry_run=dry_run)


def check(
    call: Call,
    odd: Annotated[
        bool, typer.Option("--odd", help="Also find products whose text, picture and attributes disagree.")
    ] = False,
) -> Report:
    """Say what the store holds: counts, gaps, duplicates, time span, rejects, what each part of the model gets."""
    from recsys.pipeline import check as checking

    with call.bench(writes=False) as bench:
        report = checking.check(bench)
        if odd:
            from recsys.pipeline import complete as gaps

            return gaps.with_odd(bench, report)
        return report


def train(
    call: Call,
    part: Annotated[Part | None, typer.Argument(help="Only this part; both when none is named.")] = None,
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
) -> Report:
    """Train the product and user encoders, and fit the ranker."""
    from recsys.pipeline import train as training
    from recsys.pipeline.train_recipe import Way

    other = (labels, start, distill) != (None, None, None)
    flags = {
        "training.epochs": None if other else epochs,
        "training.user_epochs": None if other else epochs,
        "training.device": device.value if device else None,
    }
    with call.bench(flags, writes=not crew.follows()) as bench:
        way = Way(bench, labels=labels, start=start, distill=distill, passes=epochs if other else None)
        return training.train(bench, parts=(part.value,) if part else training.PARTS, resume=resume, way=way)


def embed(
    call: Call,
    full: Annotated[bool, typer.Option("--full", help="Encode every product again.")] = False,
    fail_if_noop: Annotated[bool, typer.Option("--fail-if-noop", help="Exit 5 when there was nothing to do.")] = False,
) -> Report:
    """Encode the products whose content or model changed."""
    from recsys.pipeline import embed as space

    with call.bench() as bench:
        return space.embed(bench, full=full, fail_if_noop=fail_if_noop)


def cluster(
    call: Call,
    method: Annotated[Method | None, typer.Option(help="How to group.")] = None,
    number: Annotated[int | None, typer.Option(min=1, help="Number of groups; chosen when not given.")] = None,
    drawn: Annotated[Map | None, typer.Option("--map", help="Kind of map to draw.")] = None,
) -> Report:
    """Group the products, label the groups, draw a map of them; groups keep their ids."""
    from recsys.pipeline import cluster as grouping

    flags = {"cluster.method": method.value if method else None, "cluster.map": drawn.value if drawn else None}
    with call.bench({**flags, "cluster.number": number}) as bench:
        return grouping.cluster(bench)


def index(
    call: Call,
    kind: Annotated[Kind | None, typer.Option(help="Kind of index.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Build it anew, also where little changed.")] = False,
) -> Report:
    """Bring the vector index up to date, or build it, and measure its recall and speed against exact search."""
    from recsys.pipeline import index as indexing

    with call.bench({"index.kind": kind.value if kind else None}) as bench:
        return indexing.build_index(bench, full=full)


def run(
    call: Call,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, do nothing.")] = False,
) -> Report:
    """The nightly chain: ingest, train when stale, embed, cluster, index, recommend, publish, report."""
    from recsys.pipeline import run as night

    with call.bench(writes=not dry_run) as bench:
        return night.plan(bench) if dry_run else night.run(bench)
