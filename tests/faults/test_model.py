"""Nights in any order: ingest, score, stop half way, publish, force, roll back, prune, forget a user, open again.

In: steps that hypothesis chooses. Out: the store does what a model of a few dictionaries says, and keeps its promises.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from recsys.config import DataSettings, PublishSettings
from recsys.data.ingest import ingest
from recsys.data.input_sources import inputs_from_frames
from recsys.db.engine import fetch_rows
from recsys.errors import DataContractError, NotFoundError, PublishGuardError
from recsys.store.erasure import erase_users
from recsys.store.input_tables import write_inputs
from recsys.store.run_ledger import RunManifest
from recsys.store.store import Store
from tests.faults.invariants import adds_up, check
from tests.faults.tally import Tally
from tests.store.samples import lists

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]

EXAMPLES, EXAMPLES_LARGE, STEPS = 100, 5000, 12
NAMES = ("p0", "p1", "p2")
SHARDS = 2
Lists = dict[str, list[str]]


class Nights(RuleBasedStateMachine):
    """The store on one side, what it must hold on the other.

    `products` says what may be sold; `runs` are id to state, `lists` id to lists, `pruned` what has no rows any more;
    `pointer` is what consumers read and what they would go back to.
    """

    template: Path
    tally: Tally

    @initialize()
    def open_store(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nights-", dir=self.template.parent))
        shutil.copy(self.template, self.folder / "shop.db")
        self.url = f"sqlite:///{self.folder}/shop.db"
        self.store = Store.open(self.url)
        self.products: dict[str, bool] = {}
        self.runs: dict[str, str] = {}
        self.lists: dict[str, Lists] = {}
        self.pruned: set[str] = set()
        self.pointer: tuple[str, str | None] | None = None
        self.working: tuple[str, str, int] | None = None

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.store.close()
        check(self.url)
        shutil.rmtree(self.folder)
        with self.tally("a model of nights", runs=1):
            pass

    @rule(sold=st.dictionaries(st.sampled_from(NAMES), st.booleans(), min_size=1), bad=st.integers(0, 2))
    def ingest(self, sold: dict[str, bool], bad: int) -> None:
        frame = pl.DataFrame(
            {
                "product_id": [*sold, *[None] * bad],
                "title": ["x"] * (len(sold) + bad),
                "available": [*sold.values(), *[True] * bad],
            },
            schema={"product_id": pl.String, "title": pl.String, "available": pl.Boolean},
        )
        allowed = DataSettings(max_bad_fraction=0.5)
        try:
            judged = ingest(inputs_from_frames({"products": frame}), settings=allowed)
        except DataContractError:
            assert bad > 0.5 * (len(sold) + bad)
            return
        assert bad <= 0.5 * (len(sold) + bad)
        adds_up(judged.counts)
        write_inputs(self.store, judged.accepted, judged.rejected, sources=judged.sources)
        self.products |= sold

    @rule(
        version=st.sampled_from("xy"), chosen=st.permutations(NAMES), k=st.integers(1, 3), shards=st.integers(0, SHARDS)
    )
    def recommend(self, version: str, chosen: list[str], k: int, shards: int) -> None:
        """Begin or go on, write some shards, finish when all are there."""
        manifest = f"{version}{''.join(chosen)}{k}"
        run = self.store.begin_run("recommend", RunManifest(manifest, "d", "c"))
        if self.working is not None and self.working[1] == manifest:
            assert (run.run_id, run.finished_shards) == (self.working[0], set(range(self.working[2])))
        else:
            assert run.finished_shards == set() and run.run_id > max(self.runs, default="")
            if self.working is not None:
                self.runs[self.working[0]] = "failed"
        products = chosen[:k]
        for shard in range(shards):
            users = {f"u{shard}": [(name, 1.0 - at / 10) for at, name in enumerate(products)]}
            default = {"default": [(products[0], 0.0)]} if shard == 0 else {}
            run.write_shard(shard, lists(**users, **default), n_users=1)
        self.runs[run.run_id] = "building"
        self.working = (run.run_id, manifest, len(run.finished_shards))
        if len(run.finished_shards) == SHARDS:
            run.finish({"users": SHARDS})
            self.runs[run.run_id], self.working = "ready", None
            held = {f"u{shard}": products for shard in range(SHARDS)}
            self.lists[run.run_id] = {**held, "__default__": products[:1]}

    @rule(force=st.booleans(), which=st.none() | st.integers(0, 5))
    def publish(self, force: bool, which: int | None) -> None:
        """The newest ready run, or any."""
        known = sorted(self.runs)
        ready = [run for run in known if self.runs[run] == "ready" and run not in self.pruned]
        run = (known[which % len(known)] if known else "nothing") if which is not None else (ready or [""])[-1]
        may = run in self.lists and run not in self.pruned
        sold = may and all(self.products.get(name) for names in self.lists[run].values() for name in names)
        sold = sold and len(self.lists[run]) == SHARDS + 1  # of those who were forgotten, lists are missing
        try:
            done = self.store.publish(run if which is not None else None, guards=PublishSettings(), force=force)
        except NotFoundError:
            assert not may
        except PublishGuardError:
            assert may and not force and not sold
        else:
            assert done == run and may and (force or sold)
            self._points_to(run)

    def _points_to(self, run: str) -> None:
        before = self.pointer[0] if self.pointer else None
        if before == run:
            return
        if before is not None:
            self.runs[before] = "superseded"
        self.runs[run], self.pointer = "published", (run, before)

    @rule()
    def rollback(self) -> None:
        back = self.pointer[1] if self.pointer else None
        if self.pointer is None or back is None or back in self.pruned:
            with pytest.raises(NotFoundError):
                self.store.rollback()
            return
        assert self.store.rollback() == back
        older = [
            run for run, state in self.runs.items() if state == "superseded" and run < back and run not in self.pruned
        ]
        self.runs[self.pointer[0]], self.runs[back] = "rolled_back", "published"
        self.pointer = (back, max(older, default=None))

    @rule(keep=st.integers(1, 3))
    def prune(self, keep: int) -> None:
        kept, gone = 0, set()
        for run in sorted(self.runs, reverse=True):
            state = self.runs[run]
            waits = state == "ready" and run > (self.pointer[0] if self.pointer else "")
            if run in self.pruned or state == "building" or waits:
                continue
            kept += state in ("published", "superseded")
            if (kept > keep or state not in ("published", "superseded")) and run not in (self.pointer or ()):
                gone.add(run)
        assert self.store.prune(keep) == len(gone)
        self.pruned |= gone

    @rule(shard=st.integers(0, SHARDS - 1))
    def forget(self, shard: int) -> None:
        """The user's lists go from all runs; a run at work is over."""
        erase_users(self.store, [f"u{shard}"])
        if self.working is not None:
            self.runs[self.working[0]], self.working = "failed", None
        for held in self.lists.values():
            held.pop(f"u{shard}", None)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = Store.open(self.url)

    @invariant()
    def what_consumers_read(self) -> None:
        if not hasattr(self, "store"):
            return
        found: Lists = {}
        for row in self.store.recommendations().sort("user_id", "rank").iter_rows(named=True):
            found.setdefault(row["user_id"], []).append(row["product_id"])
        assert found == (self.lists[self.pointer[0]] if self.pointer else {})
        states = dict(fetch_rows(self.store.engine, "SELECT run_id, state FROM runs", {}))
        assert states == self.runs


def test_nights_in_any_order(tmp_path: Path, faults_large: bool, tally: Tally) -> None:
    with Store.open(f"sqlite:///{tmp_path}/template.db") as store:
        store.init()
    Nights.template, Nights.tally = tmp_path / "template.db", tally
    examples = EXAMPLES_LARGE if faults_large else EXAMPLES
    run_state_machine_as_test(
        Nights, settings=settings(settings.default, max_examples=examples, stateful_step_count=STEPS)
    )
