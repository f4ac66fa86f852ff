"""From users to lists: sources propose, rules strike out, the blend orders, `popular` fills, reasons are put in words.

In: histories, or user ids. Out: k ranked products a user with score and reason; ids become texts again here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.config import RecommendSettings, RuleSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.ids import IdMap
from recsys.data.interactions import Histories, Interactions
from recsys.encoder.model import Model
from recsys.errors import DataContractError, ModelFolderError
from recsys.recommend import features, reasons, rules, sources
from recsys.recommend.cases import rows_of
from recsys.recommend.lists import Lists, kinds_of
from recsys.recommend.pairs import Pairs, pairs_of
from recsys.recommend.proposals import Candidates, CandidateSource, UserBatch
from recsys.recommend.rank import Ranker

Rows = npt.NDArray[np.int64]
_LAST = 200
"""Events of a user that are looked at."""
_BLOCK = 512
"""Users scored at once; what bounds memory."""


def proposed(
    made: Sequence[CandidateSource], users: UserBatch, k: int, rule: Sequence[rules.Available | rules.Seen]
) -> Pairs:
    """What all sources propose and all rules allow, each (user, product) once."""
    parts = []
    for place, source in enumerate(made):
        found = source.propose(users, k)
        at = np.full(len(found), place, np.int16)
        parts.append(Candidates(found.user, found.item, found.score, at, found.because))
    pairs = pairs_of(Candidates.joined(parts), len(made))
    for one in rule:
        pairs = pairs.take(one.keep(pairs, users.histories))
    return pairs


class Recommender:
    """Everything a list needs, assembled once."""

    def __init__(
        self,
        held: sources.Knowledge,
        *,
        blend: Ranker,
        rule_settings: RuleSettings,
        users: IdMap,
    ) -> None:
        names = held.recommend.sources
        if tuple(names) != blend.sources:
            raise ModelFolderError(
                f"the ranker was fitted for {', '.join(blend.sources)}, but recommend.sources is {', '.join(names)}; "
                "run 'recsys train ranker'"
            )
        self.catalogue, self.interactions, self.users = held.catalogue, held.interactions, users
        self.settings, self.now, self.blend, self.names = held.recommend, held.now, blend, list(names)
        self._sources = sources.made(names, held)
        self._popular = sources.popular(held)
        self._features = features.Features(self._sources, sources.facts(held))
        self._rules = rules.made(rule_settings, held.interactions, sources=names, sellable=held.catalogue.sellable)
        self._reasons = reasons.Reasons(
            held.catalogue, held.interactions, sources=names, now=held.now, days=held.recommend.popular_days
        )
        self._never_again = rule_settings.seen != "allow"

    @staticmethod
    def assemble(
        catalogue: Catalogue,
        interactions: Interactions,
        *,
        model: Model,
        content: npt.NDArray[np.float32],
        blend: Ranker,
        recommend: RecommendSettings,
        rules: RuleSettings,
        users: IdMap,
        now: int | None = None,
    ) -> Recommender:
        """Make the sources.

        Args:
            catalogue: n products.
            interactions: all that is known.
            model: encoder.
            content: (n, d) product vectors.
            blend: fitted for the same sources.
            recommend: settings.
            rules: settings.
            users: ids of the users, row by row those of `interactions`.
            now: the moment the lists are for; a second after the last event when not given.

        Raises:
            DataContractError: there is no event, so nothing is popular and nobody has taste.
            ModelFolderError: the blend was fitted for other sources.
        """
        if not len(interactions):
            raise DataContractError("there are no events; run 'recsys ingest' with events such as purchases")
        moment = int(interactions.time.max()) + 1 if now is None else now
        held = sources.Knowledge(catalogue, interactions, model, content, recommend, moment)
        return Recommender(held, blend=blend, rule_settings=rules, users=users)

    def lists(self, histories: Histories, k: int) -> Lists:
        """The lists of some users; k long wherever that many products may be sold to them."""
        return Lists.joined([self._block(histories, start, k) for start in range(0, len(histories), _BLOCK)])

    def _block(self, histories: Histories, start: int, k: int) -> Lists:
        stop = min(start + _BLOCK, len(histories))
        some = rows_of(histories, np.arange(start, stop))
        users = UserBatch(some, self.now)
        pairs = proposed(self._sources, users, max(self.settings.candidates, k), self._rules)
        x = self._features.of(pairs, users)
        score = self.blend.score(x)
        order = np.lexsort((pairs.item, -score, pairs.user))
        place = np.arange(len(order)) - np.searchsorted(pairs.user[order], pairs.user[order])
        kept = order[place < k]
        part = np.where(pairs.held[kept], self.blend.by_source(x[kept]), -np.inf)
        source = part.argmax(axis=1) if len(kept) else np.zeros(0, np.int64)
        because = pairs.because[kept, source]
        user = pairs.user[kept]
        kind = kinds_of(some, user, because)
        chosen = Lists(user, place[place < k] + 1, pairs.item[kept], score[kept], source, because, kind)
        return self._filled(chosen, some, k).shifted(start)

    def _filled(self, lists: Lists, histories: Histories, k: int) -> Lists:
        """Fill short lists with the most popular products that are not in them and not bought."""
        b, n = len(histories), len(self.catalogue)
        missing = k - np.bincount(lists.user, minlength=b)
        short = np.flatnonzero(missing > 0)
        if not len(short):
            return lists
        taken = [lists.user * n + lists.item]
        if self._never_again:
            taken.append(rules.bought(histories, self.interactions))
        barred = np.unique(np.concatenate(taken))
        popular = self.names.index("popular") if "popular" in self.names else len(self.names)
        parts = [lists]
        for one in short.tolist():
            low, high = np.searchsorted(barred, [one * n, (one + 1) * n])
            found = _first(self._popular.order, barred[low:high] - one * n, int(missing[one]))
            mine = lists.score[lists.user == one]
            floor = float(mine.min()) if len(mine) else 0.0
            place = np.arange(1, len(found) + 1)
            score = (floor - 1e-3 * place).astype(np.float32)
            none = np.full(len(found), -1, np.int64)
            parts.append(Lists(np.full_like(none, one), place, found, score, np.full_like(none, popular), none, none))
        return Lists.ordered(parts)

    def ranked(self, histories: Histories, k: int) -> Rows:
        """Product rows alone: (b, k), -1 = no product."""
        found = self.lists(histories, k)
        out = np.full((len(histories), k), -1, np.int64)
        out[found.user, found.rank - 1] = found.item
        return out

    def recommend(self, user_ids: Sequence[str], k: int) -> pl.DataFrame:
        """Lists by user id: user_id, rank, product_id, score, reason, reason_product_id.

        A user the data does not know has no history and gets what everybody without one gets.
        """
        ids = list(dict.fromkeys(user_ids))
        return self._frame(self.lists(self._histories(self.users.rows(ids)), k), ids)

    def default(self, k: int) -> pl.DataFrame:
        """The list of `__default__`: of a user without history."""
        return self.recommend([schema.DEFAULT_USER], k)

    def stream(self, users: Rows, k: int, *, chunk: int, skip: set[int]) -> Iterator[tuple[int, pl.DataFrame, int]]:
        """Lists shard by shard; a shard holds the same users whatever was done before.

        Args:
            users: (u,) rows.
            k: length of the lists.
            chunk: users of a shard.
            skip: shards that are done.

        Yields:
            Number of the shard, its rows, its users. The list of `__default__` is in shard 0.
        """
        for shard, start in enumerate(range(0, max(1, len(users)), chunk)):
            if shard in skip:
                continue
            rows = users[start : start + chunk]
            frame = self._frame(self.lists(self._histories(rows), k), self.users.ids(rows))
            yield shard, pl.concat([self.default(k), frame]) if shard == 0 else frame, len(rows)

    def _histories(self, rows: Rows) -> Histories:
        known = rows[rows >= 0]
        lengths = self.interactions.starts[known + 1] - self.interactions.starts[known]
        return self.interactions.histories(rows, int(min(_LAST, max(1, lengths.max(initial=1)))))

    def _frame(self, lists: Lists, ids: Sequence[str]) -> pl.DataFrame:
        stems = lists.because >= 0
        stem_ids = np.full(len(lists.item), None, object)
        stem_ids[stems] = self.catalogue.ids.ids(lists.because[stems])
        return pl.DataFrame(
            {
                schema.USER_ID: [ids[at] for at in lists.user.tolist()],
                "rank": lists.rank,
                schema.PRODUCT_ID: self.catalogue.ids.ids(lists.item),
                "score": lists.score.astype(np.float64),
                "reason": self._reasons.sentences(lists),
                "reason_product_id": stem_ids.tolist(),
            },
            schema={
                schema.USER_ID: pl.String,
                "rank": pl.Int64,
                schema.PRODUCT_ID: pl.String,
                "score": pl.Float64,
                "reason": pl.String,
                "reason_product_id": pl.String,
            },
        )


def _first(order: Rows, barred: Rows, count: int) -> Rows:
    """The first `count` of `order` that are not barred; looks no further than needed."""
    head = order[: count + len(barred)]
    return head[~np.isin(head, barred)][:count]
