"""What an incremental run may take over: what was learned at the last full run (the basis) and the lists made since.

In: today's data, the published run's own notes. Out: a `RunBasis`: what the lists are made from, and whose are made.

A list is a function of what was learned and of the user's own events. Popularity, co-purchases, ages and the moment
`now` are learned from everybody's events: one new event anywhere changes them, and with them, a little, every list. So
an incremental run keeps all of that as it was at the last full run, together with the catalogue: then a list changes
only with the user's own events, with a product in it that is not sold any more, and with products that may be bought
again. Anything else that has changed asks for a full run, which makes a new basis. Nothing is stored for it but marks:
the basis is read again from the events before its moment, and a mark tells whether it is still the same.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue, content_hashes
from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.pipeline.project import Project
from recsys.recommend.recommender import Recommender
from recsys.recommend.rules import rule_set as rules
from recsys.recommend.rules.purchase_filters import replenishment_days
from recsys.store import publication as pointer
from recsys.store import recommendations as lists
from recsys.types import BoolArray
from recsys.vectors.embeddings.table import EmbeddingTable

if TYPE_CHECKING:
    from recsys.data.dataset import Dataset

_CHANGES = frozenset({schema.AVAILABLE, schema.IMAGE})
"""Columns a product may change in without a full run: what is sold is looked at by itself, and a picture is known by
its content."""
_MOST_GONE = 2000
"""More products than that, newly not sold, and everybody's list is made again."""


@dataclass(frozen=True)
class DataFingerprint:
    """The marks of a shop's data at one moment; kept with a run.

    Attributes:
        now: UTC seconds, one after the last event.
        events: names all events before `now`.
        catalogue: names the products, all they say and their vectors, but not what is sold.
        sold: which products are sold, as packed text.
    """

    now: int
    events: str
    catalogue: str
    sold: str

    @staticmethod
    def of(dataset: Dataset, table: EmbeddingTable) -> DataFingerprint:
        """Of today's data."""
        now = int(dataset.interactions.time.max(initial=-1)) + 1
        catalogue = dataset.catalogue
        return DataFingerprint(
            now, hash_events_before(dataset, now), _named(catalogue, table), _packed(catalogue.sellable)
        )

    @property
    def sellable(self) -> BoolArray:
        """(n,) bool, unpacked; rows beyond the catalogue's are False."""
        held = zlib.decompress(base64.b85decode(self.sold))
        return np.unpackbits(np.frombuffer(held, np.uint8)).astype(np.bool_)


@dataclass(frozen=True)
class RunBasis:
    """What a run's lists are made from, and for whom.

    Attributes:
        today: the data as it is; None when the shop does not ask for incremental runs.
        basis: the moment of which everything learned is; None = of today.
        before: the data when the lists were made that are taken over.
        previous: the run they are taken from; None = every list is made.
        why: in words, why the run is a full or an incremental one.
    """

    today: DataFingerprint | None = None
    basis: DataFingerprint | None = None
    previous_fingerprint: DataFingerprint | None = None
    previous: str | None = None
    reason: str = ""

    def extra(self) -> dict[str, Any]:
        """What a run's manifest notes of it."""
        if self.today is None:
            return {}
        basis = self.basis or self.today
        return {"today": asdict(self.today), "basis": asdict(basis), "previous": self.previous}


def decide_run_mode(bench: Project, table: EmbeddingTable, *, full: bool = False, everybody: bool = False) -> RunBasis:
    """Whether tonight's run is incremental.

    Args:
        bench: today's data and settings.
        table: the vectors.
        full: make a new basis, whatever could be kept.
        everybody: keep the basis but make every list: the rows must be those of the incremental run.
    """
    settings = bench.settings.recommend
    if not settings.incremental:
        return RunBasis()
    today = DataFingerprint.of(bench.dataset, table)
    if full:
        return RunBasis(today, reason="asked for")
    with bench.store.reader() as connection:
        published = pointer.published_run(connection, settings.placement)
    reason = _settings_changed_reason(bench, published)
    if reason or published is None:
        return RunBasis(today, reason=reason)
    notes = published["extra"]
    basis, before = DataFingerprint(**notes["basis"]), DataFingerprint(**notes["today"])
    reason = _basis_invalid_reason(bench, today, basis, before)
    if reason:
        return RunBasis(today, reason=reason)
    if everybody:
        return RunBasis(today, basis, reason="the basis is kept, every list is made")
    return RunBasis(today, basis, before, published["run_id"], reason=f"since run {published['run_id']}")


def _settings_changed_reason(bench: Project, published: Mapping[Any, Any] | None) -> str:
    """Why the published lists cannot be taken over, as far as that is not a matter of data; "" = they can."""
    if published is None:
        return "nothing is published yet"
    extra = published["extra"] or {}
    if "basis" not in extra:
        return "the published run was not made with recommend.incremental"
    if published["model_version"] != bench.model_version:
        return "there is a newer model"
    if published["config_hash"] != bench.recommendation_settings_hash() or extra["k"] != bench.settings.recommend.k:
        return "settings of the lists have changed"
    return ""


def _basis_invalid_reason(
    bench: Project, today: DataFingerprint, basis: DataFingerprint, before: DataFingerprint
) -> str:
    """Why the basis does not hold any more; "" = it does."""
    dataset, days = bench.dataset, bench.settings.recommend.full_days
    if today.now - basis.now >= days * DAY:
        return f"the last full run is {(today.now - basis.now) / DAY:.1f} days old (recommend.full_days = {days:g})"
    if today.catalogue != basis.catalogue:
        return "products are new, gone or say something else"
    if (today.sellable & ~before.sellable).any():
        return "products are sold that were not sold before"
    for moment in {basis.now: basis, before.now: before}.values():
        if hash_events_before(dataset, moment.now) != moment.events:
            return "events of before the last run were added, changed or erased"
    return ""


def build_recommender(bench: Project, table: EmbeddingTable, night: RunBasis) -> Recommender:
    """The recommender over what was learned at the basis, for histories and rules of today."""
    dataset, settings = bench.dataset, bench.settings
    catalogue, known, now = dataset.catalogue, dataset.interactions, None
    if night.basis is not None:
        now = night.basis.now
        known = known.where(known.time < now)
        catalogue = replace(catalogue, sellable=night.basis.sellable[: len(catalogue)])
    made = Recommender.build(
        catalogue,
        known,
        model=bench.model,
        content=table.vectors,
        blend=bench.ranker,
        recommend=settings.recommend,
        rules=settings.rules,
        users=dataset.users,
        now=now,
    )
    if night.basis is not None and night.today is not None:
        names = settings.recommend.sources
        rule = rules.build_rules(settings.rules, catalogue, dataset.interactions, sources=names, now=night.today.now)
        gone = catalogue.sellable & ~dataset.catalogue.sellable
        made.with_new_interactions(dataset.interactions, replace(rule, lists=made.rules.lists), gone=gone)
    return made


def changed_users(bench: Project, night: RunBasis) -> BoolArray:
    """Whose lists may differ from those of the previous run: (u,) bool by row of the user."""
    dataset = bench.dataset
    known = dataset.interactions
    if night.previous_fingerprint is None or night.today is None:
        return np.ones(len(dataset.users), np.bool_)
    out = np.zeros(len(dataset.users), np.bool_)
    out[known.user[known.time >= night.previous_fingerprint.now]] = True
    out |= _replenished(bench, night.previous_fingerprint.now, night.today.now)
    gone = np.flatnonzero(night.previous_fingerprint.sellable[: len(dataset.catalogue)] & ~dataset.catalogue.sellable)
    settings = bench.settings
    weighed = (
        settings.rules.caps,
        settings.rules.min_new,
        settings.recommend.diversity,
        settings.recommend.calibration,
    )
    if len(gone) and (any(weighed) or len(gone) > _MOST_GONE):
        # Where products are weighed against each other, one that is in no list may still move others.
        return np.ones(len(dataset.users), np.bool_)
    if len(gone):
        with bench.store.reader() as connection:
            holders = lists.users_with_products(connection, str(night.previous), dataset.catalogue.ids.ids(gone))
        rows = dataset.users.rows(holders)
        out[rows[rows >= 0]] = True
    return out


def _replenished(bench: Project, before: int, now: int) -> BoolArray:
    """Users with a product that `rules.replenish_days` lets back between two moments: (u,) bool."""
    dataset, days = bench.dataset, bench.settings.rules.replenish_days
    known, out = dataset.interactions, np.zeros(len(dataset.users), np.bool_)
    if not days:
        return out
    bought = known.event_type == PURCHASE_CODE
    user, item, time = known.user[bought], known.item[bought], known.time[bought]
    back = time + replenishment_days(days, dataset.catalogue)[item] * DAY  # NaN compares as false
    # An older purchase of the same product does not matter, but making a list more often than needed does no harm.
    out[user[(back > before) & (back <= now)]] = True
    return out


def hash_events_before(dataset: Dataset, moment: int) -> str:
    """A name of all events before a moment: the same only when all of them are; 32 hex digits.

    Rows of users move when users come, so users go by their ids; rows of products are named by the catalogue's mark.
    """
    known = dataset.interactions
    kept = known.time < moment
    user = known.user[kept]
    some, place = np.unique(user, return_inverse=True)
    ids = pl.DataFrame({"id": dataset.users.ids(some)}, schema={"id": pl.String})
    digest = blake2b(content_hashes(ids, ["id"])[place].tobytes(), digest_size=16)
    for array in (known.item, known.time, known.event_type, known.weight):
        digest.update(np.ascontiguousarray(array[kept]).tobytes())
    return digest.hexdigest()


def _named(catalogue: Catalogue, table: EmbeddingTable) -> str:
    columns = sorted(name for name in catalogue.frame.columns if name not in _CHANGES)
    digest = blake2b("\x1f".join(columns).encode(), digest_size=16)
    digest.update(catalogue.hashes(columns).tobytes())
    digest.update(np.ascontiguousarray(table.vectors).tobytes())
    return digest.hexdigest()


def _packed(flags: BoolArray) -> str:
    return base64.b85encode(zlib.compress(np.packbits(flags).tobytes(), 9)).decode()
