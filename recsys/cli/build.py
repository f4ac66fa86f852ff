"""Commands that build the artifacts: demo, init, ingest, check, train, embed, cluster, index, run.

In: command lines. Out: results of the pipeline, which is imported only when a command runs.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from recsys.cli.context import CommandContext, command
from recsys.execution.torchrun import is_helper
from recsys.pipeline.result import CommandResult


class InputTable(StrEnum):
    """The canonical input tables."""

    products = "products"
    events = "events"
    users = "users"


class TrainPart(StrEnum):
    """Trainable parts."""

    encoder = "encoder"
    ranker = "ranker"


class Device(StrEnum):
    """Devices for training."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class IndexKind(StrEnum):
    """Types of vector index."""

    auto = "auto"
    flat = "flat"
    ivf = "ivf"
    hnsw = "hnsw"
    pq = "pq"


class ClusterMethod(StrEnum):
    """Clustering methods."""

    kmeans = "kmeans"
    hdbscan = "hdbscan"
    agglomerative = "agglomerative"


class MapMethod(StrEnum):
    """Methods for the 2-D map."""

    pca = "pca"
    tsne = "tsne"
    umap = "umap"
    none = "none"


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
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
    context: CommandContext,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of the demo shop.")] = Path("demo-shop"),
    products: Annotated[int, typer.Option(min=20, help="Number of products.")] = 600,
    users: Annotated[int, typer.Option(min=10, help="Number of users.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
) -> CommandResult:
    """Generate a demo shop, run the complete pipeline on it, show recommendations with reasons."""
    from recsys.pipeline.demo import run_demo

    return run_demo(
        directory, context.create_progress(), products=products, users=users, seed=seed, database=context.database
    )


def init(
    context: CommandContext,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Project folder to create.")] = None,
) -> CommandResult:
    """Create a project folder with a commented recsys.toml, and the tables in the database."""
    from recsys.pipeline.init import init_project

    return init_project(directory or context.project_dir, database=context.database)


def ingest(
    context: CommandContext,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Files or folders to read.")] = None,
    preset: Annotated[str | None, typer.Option(help="Format of the files, e.g. hm, personalize.")] = None,
    table: Annotated[InputTable | None, typer.Option("--as", help="Table that the files contain.")] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="NAME=COLUMN", help="Canonical column name = column in the files; repeatable."),
    ] = None,
    images: Annotated[list[Path] | None, typer.Option(help="Folder or zip file of images; repeatable.")] = None,
    replace: Annotated[
        list[InputTable] | None,
        typer.Option(help="Table that the files replace: other stored rows go, columns that are missing become empty."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate the rows, write nothing.")] = False,
    from_sql: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Read the shop's own database instead of files.",
        ),
    ] = None,
    products_query: Annotated[str | None, typer.Option(help="SELECT for the products, or @file.sql.")] = None,
    events_query: Annotated[str | None, typer.Option(help="SELECT for the events, or @file.sql.")] = None,
    users_query: Annotated[str | None, typer.Option(help="SELECT for the users, or @file.sql.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Re-read all rows of the database; remove stored rows that it does not have.")
    ] = False,
) -> CommandResult:
    """Read products, events, users and images into the store; invalid rows go to rejected_rows."""
    from recsys.pipeline.ingest import IngestRequest
    from recsys.pipeline.ingest import ingest as run_ingest

    request = IngestRequest.from_options(
        paths or (),
        preset=preset,
        table=table.value if table else None,
        mapping=mapping or (),
        images=images or (),
        sql=from_sql is not None,
        full=full,
        replace=[table.value for table in replace or ()],
    )
    source = {
        "source.url": from_sql,
        "source.products_query": products_query,
        "source.events_query": events_query,
        "source.users_query": users_query,
    }
    with context.open_project(source, writes=not dry_run) as project:
        return run_ingest(project, request, dry_run=dry_run)


def check(
    context: CommandContext,
    odd: Annotated[
        bool, typer.Option("--odd", help="Also find products whose text, image and attributes contradict each other.")
    ] = False,
) -> CommandResult:
    """Report on the stored data: counts, missing values, duplicates, time span, rejects, model inputs."""
    from recsys.pipeline.check import check_data

    with context.open_project(writes=False) as project:
        result = check_data(project)
        if odd:
            from recsys.pipeline.complete import add_inconsistencies

            return add_inconsistencies(project, result)
        return result


def train(
    context: CommandContext,
    part: Annotated[TrainPart | None, typer.Argument(help="Train only this part; default both.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over products and users; with --from, --labels or --distill over products only.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint.")] = False,
    initial_model: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Start from a model folder, e.g. of another shop, or 'current'."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Product labels to learn; starts from an existing model.")
    ] = None,
    distill: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Train a smaller encoder to imitate this model folder, or 'current'.",
        ),
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Device for training.")] = None,
) -> CommandResult:
    """Train the product and user encoders, and fit the ranker."""
    from recsys.pipeline.train import PARTS
    from recsys.pipeline.train import train as run_training
    from recsys.pipeline.train_recipe import TrainingRecipe

    products_only = (labels, initial_model, distill) != (None, None, None)
    flags = {
        "training.epochs": None if products_only else epochs,
        "training.user_epochs": None if products_only else epochs,
        "training.device": device.value if device else None,
    }
    with context.open_project(flags, writes=not is_helper()) as project:
        recipe = TrainingRecipe(
            project,
            labels=labels,
            initial_model=initial_model,
            distill=distill,
            epochs=epochs if products_only else None,
        )
        return run_training(project, parts=(part.value,) if part else PARTS, resume=resume, recipe=recipe)


def embed(
    context: CommandContext,
    full: Annotated[bool, typer.Option("--full", help="Encode all products again.")] = False,
    fail_if_noop: Annotated[
        bool,
        typer.Option(
            "--fail-if-noop",
            help="Exit with code 5 if there is nothing to do.",
        ),
    ] = False,
) -> CommandResult:
    """Encode the products whose content changed, or all products after a change of the model."""
    from recsys.pipeline.embed import embed_products

    with context.open_project() as project:
        return embed_products(project, full=full, fail_if_noop=fail_if_noop)


def cluster(
    context: CommandContext,
    method: Annotated[ClusterMethod | None, typer.Option(help="Clustering method.")] = None,
    number: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of clusters; chosen automatically by default.",
        ),
    ] = None,
    map_method: Annotated[MapMethod | None, typer.Option("--map", help="Method for the 2-D map.")] = None,
) -> CommandResult:
    """Cluster the products, label the clusters, compute a 2-D map; clusters keep their ids between runs."""
    from recsys.pipeline.cluster import cluster_products

    flags = {
        "cluster.method": method.value if method else None,
        "cluster.map": map_method.value if map_method else None,
    }
    with context.open_project({**flags, "cluster.number": number}) as project:
        return cluster_products(project)


def index(
    context: CommandContext,
    kind: Annotated[IndexKind | None, typer.Option(help="Index type.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Rebuild the index even if little changed.")] = False,
) -> CommandResult:
    """Update or build the vector index, and measure its recall and speed against exact search."""
    from recsys.pipeline.index import build_index

    with context.open_project({"index.kind": kind.value if kind else None}) as project:
        return build_index(project, full=full)


def run(
    context: CommandContext,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan only.")] = False,
) -> CommandResult:
    """Run the nightly pipeline: ingest, train if stale, embed, cluster, index, recommend, publish, report."""
    from recsys.pipeline.run import plan_run, run_nightly

    with context.open_project(writes=not dry_run) as project:
        return plan_run(project) if dry_run else run_nightly(project)
