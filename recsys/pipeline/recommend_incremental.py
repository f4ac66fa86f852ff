"""Decides whether a run is incremental, what its recommendations are computed from, and for which users.

In: the current data and the manifest of the published run. Out: a `RunBasis`, the recommender, the changed users.

A recommendation list is a function of what was learned and of the user's own events. Popularity, co-purchases, ages and
the moment `now` are learned from the events of all users: one new event anywhere changes them, and with them, a little,
every list. So an incremental run keeps all of that as it was at the last full run, together with the catalogue. Then a
list changes only with the user's own events, with a product in it that is no longer sold, and with products that may be
bought again. Any other change requires a full run, which becomes the new basis. Only fingerprints are stored for this:
the basis is read again from the events before its moment, and a fingerprint shows whether they are still the same.
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
from recsys.data.interactions import FOREVER
from recsys.data.schema import DAY, PURCHASE_CODE
from recsys.pipeline.project import Project
from recsys.recommend.recommender import Recommender
from recsys.recommend.rules.purchase_filters import replenishment_days
from recsys.recommend.rules.rule_set import build_rules
from recsys.store.publication import current_run
from recsys.store.recommendations import users_with_products
from recsys.types import BoolArray, IntArray
from recsys.vectors.embeddings.table import EmbeddingTable

if TYPE_CHECKING:
    from recsys.data.dataset import Dataset

_VARIABLE_COLUMNS = frozenset({schema.AVAILABLE, schema.IMAGE})
"""Columns that may change without a full run: availability is compared by itself, and an image is known by its hash."""
_MAX_UNAVAILABLE = 2000
"""If more products than this are newly unavailable, the lists of all users are computed."""


@dataclass(frozen=True)
class DataFingerprint:
    """Fingerprint of a shop's data at one moment, stored with a run.

    Attributes:
        now: UTC seconds, one after the last event.
        events: hash of all events before `now`.
        catalogue: hash of the products, their attributes and vectors, without their availability.
        sold: mask of the sellable products, as packed text.
    """

    now: int
    events: str
    catalogue: str
    sold: str

    @staticmethod
    def from_dataset(dataset: Dataset, embeddings: EmbeddingTable) -> DataFingerprint:
        """Compute the fingerprint of the current data."""
        now = dataset.interactions.last_time + 1
        catalogue = dataset.catalogue
        return DataFingerprint(
            now,
            hash_events_before(dataset, now),
            _hash_catalogue(catalogue, embeddings),
            _pack_mask(catalogue.sellable),
        )

    @property
    def sellable(self) -> BoolArray:
        """(n,) bool, unpacked; rows beyond the catalogue's are False."""
        packed = zlib.decompress(base64.b85decode(self.sold))
        return np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.bool_)


@dataclass(frozen=True)
class RunBasis:
    """What the recommendations of a run are computed from, and whether a previous run's lists are carried over.

    Attributes:
        current: fingerprint of the current data; None = recommend.incremental is off.
        basis: fingerprint at the last full run, from which everything learned is taken; None = the current data.
        previous: fingerprint at the run whose lists are carried over; None = every list is computed.
        previous_run_id: that run.
        reason: why the run is full or incremental, in words.
    """

    current: DataFingerprint | None = None
    basis: DataFingerprint | None = None
    previous: DataFingerprint | None = None
    previous_run_id: str | None = None
    reason: str = ""

    def to_manifest(self) -> dict[str, Any]:
        """Return the entries of the run's manifest, from which the next run decides its mode."""
        if self.current is None:
            return {}
        basis = self.basis or self.current
        return {"today": asdict(self.current), "basis": asdict(basis), "previous": self.previous_run_id}


def decide_run_mode(
    project: Project, embeddings: EmbeddingTable, *, full: bool = False, all_users: bool = False
) -> RunBasis:
    """Decide whether the run is full or incremental.

    Args:
        project: current data and settings.
        embeddings: current embeddings.
        full: start a new basis even if the old one is valid.
        all_users: keep the basis but compute every list; the rows must equal those of the incremental run.
    """
    settings = project.settings.recommend
    if not settings.incremental:
        return RunBasis()
    current = DataFingerprint.from_dataset(project.dataset, embeddings)
    if full:
        return RunBasis(current, reason="asked for")
    with project.store.reader() as connection:
        published = current_run(connection, settings.placement)
    reason = _settings_changed_reason(project, published)
    if reason or published is None:
        return RunBasis(current, reason=reason)
    manifest = published["extra"]
    basis, previous = DataFingerprint(**manifest["basis"]), DataFingerprint(**manifest["today"])
    reason = _basis_invalid_reason(project.dataset, current, basis, previous, full_days=settings.full_days)
    if reason:
        return RunBasis(current, reason=reason)
    if all_users:
        return RunBasis(current, basis, reason="the basis is kept, every list is made")
    return RunBasis(current, basis, previous, published["run_id"], reason=f"since run {published['run_id']}")


def _settings_changed_reason(project: Project, published: Mapping[Any, Any] | None) -> str:
    """Return why models or settings rule out carrying over the published lists; "" = they do not."""
    if published is None:
        return "nothing is published yet"
    extra = published["extra"] or {}
    if "basis" not in extra:
        return "the published run was not made with recommend.incremental"
    if published["model_version"] != project.model_version:
        return "there is a newer model"
    same_settings = published["config_hash"] == project.recommendation_settings_hash()
    if not same_settings or extra["k"] != project.settings.recommend.k:
        return "settings of the lists have changed"
    return ""


def _basis_invalid_reason(
    dataset: Dataset, current: DataFingerprint, basis: DataFingerprint, previous: DataFingerprint, *, full_days: float
) -> str:
    """Return why the basis is no longer valid; "" = it is."""
    if current.now - basis.now >= full_days * DAY:
        age = (current.now - basis.now) / DAY
        return f"the last full run is {age:.1f} days old (recommend.full_days = {full_days:g})"
    if current.catalogue != basis.catalogue:
        return "products are new, gone or say something else"
    if (current.sellable & ~previous.sellable).any():
        return "products are sold that were not sold before"
    for fingerprint in {basis.now: basis, previous.now: previous}.values():
        if hash_events_before(dataset, fingerprint.now) != fingerprint.events:
            return "events of before the last run were added, changed or erased"
    return ""


def build_recommender(project: Project, embeddings: EmbeddingTable, run_basis: RunBasis) -> Recommender:
    """Build the recommender from what was learned at the basis, for current histories and rules."""
    dataset, settings = project.dataset, project.settings
    catalogue, interactions, now = dataset.catalogue, dataset.interactions, None
    if run_basis.basis is not None:
        now = run_basis.basis.now
        interactions = interactions.as_of(now)
        catalogue = replace(catalogue, sellable=run_basis.basis.sellable[: len(catalogue)])
    recommender = Recommender.build(
        catalogue,
        interactions,
        model=project.model,
        content=embeddings.vectors,
        ranker=project.ranker,
        recommend=settings.recommend,
        rules=settings.rules,
        privacy=settings.privacy,
        users=dataset.users,
        now=now,
    )
    if run_basis.basis is not None and run_basis.current is not None:
        sources, current_now = settings.recommend.sources, run_basis.current.now
        rules = build_rules(settings.rules, catalogue, dataset.interactions, sources=sources, now=current_now)
        unavailable = catalogue.sellable & ~dataset.catalogue.sellable & settings.rules.available_only
        rules = replace(rules, list_constraints=recommender.rules.list_constraints)
        recommender.update_interactions(dataset.interactions, rules, discontinued=unavailable)
    return recommender


def changed_users(project: Project, run_basis: RunBasis) -> BoolArray:
    """Return the mask of users whose recommendations must be recomputed: (u,) bool by row of the user."""
    dataset, settings, previous = project.dataset, project.settings, run_basis.previous
    n_users, interactions = len(dataset.users), dataset.interactions
    if previous is None or run_basis.current is None:
        return np.ones(n_users, np.bool_)
    became_unavailable = previous.sellable[: len(dataset.catalogue)] & ~dataset.catalogue.sellable
    unavailable = np.flatnonzero(became_unavailable & settings.rules.available_only)
    weighs_products = any(
        (settings.rules.caps, settings.rules.min_new, settings.recommend.diversity, settings.recommend.calibration)
    )
    if len(unavailable) > _MAX_UNAVAILABLE or (len(unavailable) and weighs_products):
        # Where products are weighed against each other, one that is in no list may still move others.
        return np.ones(n_users, np.bool_)
    changed = _users_with_replenished_products(
        dataset, settings.rules.replenish_days, after=previous.now, until=run_basis.current.now
    )
    changed[interactions.user[interactions.time >= previous.now]] = True
    if interactions.versions is not None:  # returns since then
        versions = interactions.versions
        is_new = (versions.since >= previous.now) | ((versions.until >= previous.now) & (versions.until < FOREVER))
        changed[versions.user[is_new]] = True
    if len(unavailable):
        with project.store.reader() as connection:
            products = dataset.catalogue.ids.ids(unavailable)
            users = users_with_products(connection, str(run_basis.previous_run_id), products)
        rows = dataset.users.rows(users)
        changed[rows[rows >= 0]] = True
    return changed


def _users_with_replenished_products(
    dataset: Dataset, replenish_days: Mapping[str, float], *, after: int, until: int
) -> BoolArray:
    """Return users with a product that `rules.replenish_days` allows again between two moments: (u,) bool."""
    interactions, users = dataset.interactions, np.zeros(len(dataset.users), np.bool_)
    if not replenish_days:
        return users
    bought = interactions.event_type == PURCHASE_CODE
    user, item, time = interactions.user[bought], interactions.item[bought], interactions.time[bought]
    allowed_from = time + replenishment_days(replenish_days, dataset.catalogue)[item] * DAY  # NaN compares as false
    # An older purchase of the same product does not matter, but recomputing a list more often than needed is harmless.
    users[user[(allowed_from > after) & (allowed_from <= until)]] = True
    return users


def hash_events_before(dataset: Dataset, moment: int) -> str:
    """Return a hash of all events before a moment, 32 hex digits; any changed event changes it.

    Rows of users move when users are added, so users enter by their ids; the catalogue's hash covers product rows.
    """
    interactions = dataset.interactions
    if interactions.versions is not None:
        interactions = interactions.as_of(moment)
    mask = interactions.time < moment
    users, inverse = np.unique(interactions.user[mask], return_inverse=True)
    digest = blake2b(content_hashes(_id_frame(dataset, users), ["id"])[inverse].tobytes(), digest_size=16)
    for array in (interactions.item, interactions.time, interactions.event_type, interactions.weight):
        digest.update(np.ascontiguousarray(array[mask]).tobytes())
    if interactions.versions is not None:
        returned_user, returned_item = interactions.returned_pairs()
        digest.update(content_hashes(_id_frame(dataset, returned_user), ["id"]).tobytes())
        digest.update(returned_item.tobytes())
    return digest.hexdigest()


def _id_frame(dataset: Dataset, users: IntArray) -> pl.DataFrame:
    return pl.DataFrame({"id": dataset.users.ids(users)}, schema={"id": pl.String})


def _hash_catalogue(catalogue: Catalogue, embeddings: EmbeddingTable) -> str:
    columns = sorted(name for name in catalogue.frame.columns if name not in _VARIABLE_COLUMNS)
    digest = blake2b("\x1f".join(columns).encode(), digest_size=16)
    digest.update(catalogue.hashes(columns).tobytes())
    digest.update(np.ascontiguousarray(embeddings.vectors).tobytes())
    return digest.hexdigest()


def _pack_mask(mask: BoolArray) -> str:
    return base64.b85encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
