"""The H&M files as the rooms see them: every product anybody bought, and all purchases in the order of the files.

In: articles, transactions, zips of pictures. Out: `Shop`.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys.config import ImageSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.dataset import catalogue_from_frame
from recsys.data.id_map import IdMap
from recsys.data.image_store import ImageStore
from recsys.data.interactions import Interactions
from recsys.data.presets import get_preset

QUICK_CUSTOMERS = 1500


@dataclass(frozen=True)
class Shop:
    """Catalogue, purchases, customers.

    Attributes:
        catalogue: products bought by anybody; these are the candidates.
        interactions: all purchases; within a day the seconds count up in the order of the files.
        users: customer ids.
        of_test_file: customer rows that stand in the file of test transactions.
    """

    catalogue: Catalogue
    interactions: Interactions
    users: IdMap
    of_test_file: np.ndarray

    def fifth(self) -> np.ndarray:
        """Rows of the test customers: md5("s" + id), the first 8 hexadecimal digits, mod 5 = 0."""
        digests = [hashlib.md5(f"s{user}".encode(), usedforsecurity=False).hexdigest() for user in self.users.texts]
        return np.array([row for row, digest in enumerate(digests) if int(digest[:8], 16) % 5 == 0], np.int64)


def add_files(parser: argparse.ArgumentParser, *, pictures: bool = True) -> None:
    """The files of a command line.

    Args:
        parser: where they are added.
        pictures: whether there have to be any.
    """
    parser.add_argument("--articles", type=Path, required=True)
    parser.add_argument("--transactions", type=Path, nargs="+", required=True)
    parser.add_argument("--images", type=Path, nargs="+" if pictures else "*", required=pictures, default=[])


def opened(asked: argparse.Namespace, work: Path, settings: ImageSettings, *, test: Path | None = None) -> Shop:
    """The files of a command line: `articles`, `transactions`, `images`; with `quick` few customers of them."""
    return read(
        articles=asked.articles,
        transactions=asked.transactions,
        test=test,
        images=asked.images,
        folder=work / "pictures",
        settings=settings,
        most_customers=QUICK_CUSTOMERS if asked.quick else None,
    )


def read(
    *,
    articles: Path,
    transactions: Sequence[Path],
    test: Path | None,
    images: Sequence[Path],
    folder: Path,
    settings: ImageSettings,
    most_customers: int | None = None,
) -> Shop:
    """Read the files.

    Args:
        articles: table of the articles, parquet or csv.
        transactions: tables of purchases.
        test: one more, whose customers are the test.
        images: zips or folders of `<article_id>.jpg`.
        folder: where decoded pictures are kept; a second call decodes nothing.
        settings: size of the pictures.
        most_customers: about so many, drawn by hash; for a quick look.
    """
    frames = [_table(path).with_columns(pl.lit(value=False).alias("test")) for path in transactions]
    if test is not None:
        frames.append(_table(test).with_columns(pl.lit(value=True).alias("test")))
    columns = ["t_dat", "customer_id", "article_id", "test"]
    bought = pl.concat([frame.select(columns) for frame in frames], how="vertical_relaxed")
    people = bought["customer_id"].unique().sort().to_list()
    if most_customers is not None and len(people) > most_customers:
        share = most_customers / len(people)
        kept = [user for user in people if int(hashlib.sha256(user.encode()).hexdigest()[:8], 16) < share * 2**32]
        bought = bought.filter(pl.col("customer_id").is_in(kept))
    products = _products(articles, bought["article_id"].unique().sort())
    ids = IdMap(products[schema.PRODUCT_ID].to_list())
    store = ImageStore(folder, settings)
    if images:
        store.add(list(images), {}, also=ids.texts)
    catalogue = catalogue_from_frame(products, store)
    users = IdMap(bought["customer_id"].unique().sort().to_list())
    within = bought.select(pl.int_range(pl.len()).over("customer_id", "t_dat")).to_series().to_numpy()
    day = bought["t_dat"].cast(pl.Date).cast(pl.Datetime("us")).dt.epoch("s").to_numpy()
    rows = users.rows(bought["customer_id"])
    interactions = Interactions.from_events(
        user=rows,
        item=ids.rows(bought["article_id"]),
        time=day + within,
        n_users=len(users),
        n_items=len(ids),
    )
    return Shop(catalogue, interactions, users, np.unique(rows[bought["test"].to_numpy()]))


def _products(path: Path, wanted: pl.Series) -> pl.DataFrame:
    """Canonical products in the order of `wanted`; one without an article row has an id alone."""
    (shaped,) = get_preset("hm").shape(iter([_table(path)]), "products")
    known = shaped.with_columns(pl.col(schema.PRODUCT_ID).cast(pl.String))
    return pl.DataFrame({schema.PRODUCT_ID: wanted}).join(
        known, on=schema.PRODUCT_ID, how="left", maintain_order="left"
    )


def _table(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, schema_overrides={"article_id": pl.String, "customer_id": pl.String, "t_dat": pl.Date})
