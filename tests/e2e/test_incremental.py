"""Incremental nights: made from the users a day has changed, equal to all lists made anew from the same basis."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recsys as package
from recsys.config import read
from recsys.pipeline import recommend as lists
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult
from tests.e2e.projects import SMALL, Run, rows

pytestmark = pytest.mark.e2e
DAY = 86_400
INCREMENTAL = SMALL.replace("[recommend]", "[recommend]\nincremental = true")
LISTS = """SELECT user_id, rank, product_id, score, reason, reason_product_id FROM recommendations
  WHERE placement = 'default' ORDER BY user_id, rank"""


LEDGER = "SELECT SUM(n_rows) FROM run_shards WHERE run_id = (SELECT MAX(run_id) FROM runs)"


def run(project: Path, **way: bool) -> CommandResult:
    with Project(read(project).settings) as bench:
        return lists.recommend(bench, lists.RecommendOptions(**way))


@pytest.fixture(scope="module")
def night(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose published run is a basis; never change it, copy it."""
    project = tmp_path_factory.mktemp("night") / "project"
    shutil.copytree(trained, project)
    (project / "recsys.toml").write_text(INCREMENTAL, encoding="utf-8")
    report = run(project)
    assert report.counts["lists_kept"] == 0 and "not made with recommend.incremental" in report.notes[-1]
    return project


@pytest.fixture
def tonight(night: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(night, tmp_path / "project"))


def newest(project: Path) -> int:
    ((text,),) = rows(project, "SELECT strftime('%s', MAX(occurred_at)) FROM events")
    return int(text)


def buy(project: Path, seed: int, *, users: int, days: float = 1.0, **fixed: object) -> set[str]:
    """A day's events of some users drawn by a seed, one of them new; who they are."""
    g = np.random.default_rng(seed)
    known = [user for (user,) in rows(project, "SELECT user_id FROM users ORDER BY 1")]
    products = [product for (product,) in rows(project, "SELECT product_id FROM products WHERE available ORDER BY 1")]
    who = [*g.choice(known, users - 1, replace=False).tolist(), f"new{seed}"]
    count = g.integers(1, 5, size=len(who))
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(who, count),
            "product_id": g.choice(products, count.sum()),
            "event_type": g.choice(["purchase", "view"], count.sum()),
            "occurred_at": newest(project) + 1 + g.integers(0, int(days * DAY), size=count.sum()),
        }
    ).with_columns(pl.lit(value).alias(name) for name, value in fixed.items())
    with package.open(project) as shop:
        shop.ingest(events=frame)
    return set(who)


def both(project: Path) -> tuple[CommandResult, list[tuple], list[tuple]]:
    """The lists of an incremental run, and all of them made anew from the same basis."""
    shutil.copytree(project, project.parent / "twin")
    report = run(project)
    run(project.parent / "twin", all_users=True)
    made, anew = rows(project, LISTS), rows(project.parent / "twin", LISTS)
    shutil.rmtree(project.parent / "twin")
    return report, made, anew


@pytest.mark.parametrize("seed", range(4))
def test_after_any_days_the_rows_are_those_of_a_full_run(tonight: Path, seed: int) -> None:
    before = rows(tonight, LISTS)
    for day in range(2):  # the second night takes over from an incremental one
        who = buy(tonight, 10 * seed + day, users=1 + seed * 3)
        report, made, anew = both(tonight)
        assert made == anew
        assert report.counts["lists_made"] == len(who) and report.counts["lists_kept"] > 20
        assert rows(tonight, LEDGER) == [(len(made),)]
    assert made != before


def test_a_day_without_events_takes_everything_over(tonight: Path) -> None:
    before = rows(tonight, LISTS)
    report = run(tonight)
    assert report.counts["lists_made"] == 0 and rows(tonight, LISTS) == before
    assert report.run_id == rows(tonight, "SELECT run_id FROM publications WHERE placement = 'default'")[0][0]


def change(project: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(project / "recsys.db")) as connection:
        assert connection.execute(statement).rowcount
        connection.commit()


def sold_out(project: Path, product: str) -> None:
    change(project, f"UPDATE products SET available = 0 WHERE product_id = '{product}'")


def test_lists_with_a_product_that_is_sold_out_are_made_again(tonight: Path) -> None:
    ((product, holders),) = rows(
        tonight, "SELECT product_id, COUNT(*) FROM recommendations WHERE user_id <> '__default__' "
        "GROUP BY 1 HAVING COUNT(*) BETWEEN 3 AND 15 ORDER BY 2, 1 LIMIT 1",
    )  # fmt: skip
    sold_out(tonight, product)
    who = buy(tonight, 7, users=3)
    report, made, anew = both(tonight)
    assert made == anew and product not in {row[2] for row in made}
    assert holders <= report.counts["lists_made"] <= holders + len(who)


def test_where_products_are_weighed_against_each_other_all_lists_are_made_again(tonight: Path) -> None:
    (tonight / "recsys.toml").write_text(INCREMENTAL + "[rules]\ncaps = { category = 2 }\n", encoding="utf-8")
    assert "settings of the lists have changed" in run(tonight).notes[-1]
    who = buy(tonight, 3, users=3)
    report, made, anew = both(tonight)
    assert made == anew and report.counts["lists_made"] == len(who)
    sold_out(tonight, made[5][2])
    report, made, anew = both(tonight)
    assert made == anew and report.counts["lists_kept"] == 0


def test_products_that_may_be_bought_again_come_back(tonight: Path) -> None:
    (tonight / "recsys.toml").write_text(INCREMENTAL + '[rules]\nreplenish_days = { "*" = 20 }\n', encoding="utf-8")
    run(tonight)
    buy(tonight, 5, users=2, days=3)
    report, made, anew = both(tonight)
    assert made == anew and report.counts["lists_made"] > 2 and report.counts["lists_kept"] > 0


def later(project: Path) -> None:
    buy(project, 1, users=3, occurred_at=newest(project) + 8 * DAY)


def late(project: Path) -> None:
    buy(project, 1, users=3, occurred_at=newest(project) - 5 * DAY)


def another_price(project: Path) -> None:
    change(project, "UPDATE products SET price = price * 2 WHERE product_id = (SELECT MIN(product_id) FROM products)")


def back_again(project: Path) -> None:
    change(project, "UPDATE products SET available = 1 WHERE available = 0")


def another_length(project: Path) -> None:
    (project / "recsys.toml").write_text(INCREMENTAL.replace("k = 6", "k = 5"), encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (later, "days old"),
        (late, "were added, changed or erased"),
        (another_price, "say something else"),
        (back_again, "sold that were not sold before"),
        (another_length, "settings of the lists"),
    ],
)
def test_whatever_else_has_changed_asks_for_a_full_run(
    tonight: Path, recsys: Run, what: Callable[[Path], None], why: str
) -> None:
    what(tonight)
    report = run(tonight)
    assert report.counts["lists_kept"] == 0 and why in report.notes[-1]
    made = rows(tonight, LISTS)
    # It is the run that a shop without incremental runs would have made.
    (tonight / "recsys.toml").write_text(
        (tonight / "recsys.toml").read_text(encoding="utf-8").replace("incremental = true\n", ""), encoding="utf-8"
    )
    assert recsys("recommend", "-C", tonight, "-q").code == 0
    assert rows(tonight, LISTS) == made


def test_full_is_full_and_everybody_is_made_when_asked_for(tonight: Path, recsys: Run) -> None:
    buy(tonight, 2, users=2)
    told = recsys("recommend", "--full", "-C", tonight, "--json")
    assert told.code == 0 and told.document["counts"]["lists_kept"] == 0
