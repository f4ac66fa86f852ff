"""From users to lists: sources propose, rules strike out, the blend orders, rules choose, `popular` fills.

In: histories, or user ids. Out: k ranked products a user with score and reason; ids become texts again here. The order
in which places are filled stands in `rules.RuleSet`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import polars as pl

from recsys.config import RecommendSettings, RuleSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.holdout import take_histories
from recsys.data.id_map import IdMap
from recsys.data.interactions import Histories, Interactions
from recsys.encoder.model import Model
from recsys.errors import DataContractError, ModelFolderError
from recsys.recommend import reasons
from recsys.recommend.candidates import registry as sources
from recsys.recommend.candidates.co_purchase import CoPurchaseSource
from recsys.recommend.candidates.per_user import argsort_by_user_score
from recsys.recommend.candidates.source import UserBatch
from recsys.recommend.ranking import features
from recsys.recommend.ranking.diversity import DiversityReranker
from recsys.recommend.ranking.linear import Ranker, rank_scores
from recsys.recommend.ranking.statistics import build_product_statistics
from recsys.recommend.recommendations import Recommendations, explaining_event_types, non_increasing_scores
from recsys.recommend.retrieval import ScoredCandidates, retrieve_candidates
from recsys.recommend.rules import rule_set as rules
from recsys.recommend.rules.backfill import backfill
from recsys.recommend.rules.list_constraints import RankedPool, select_greedy
from recsys.recommend.rules.statistics import RuleStats
from recsys.types import BoolArray, FloatArray, IntArray

_LAST = 200
"""Events of a user that are looked at."""
_UNEXPLAINED_SOURCES, _UNNAMED = ("sequence", "popular"), 0.5
"""What these sources say counts so much when a reason is looked for."""
_SHOWN = {schema.USER_ID: pl.String, "rank": pl.Int64, schema.PRODUCT_ID: pl.String, "score": pl.Float64}
_SHOWN |= {"reason": pl.String, "reason_product_id": pl.String}
BLOCK = 512
"""Users scored at once; what bounds memory."""


class Recommender:
    """Everything a list needs, assembled once.

    Attributes:
        rules: all rules of the shop.
        drops: what they did to the lists made so far.
        sources: the candidate sources by name, in order; they search among `rules.allowed`.
    """

    def __init__(
        self,
        held: sources.SourceContext,
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
        self.rules = rules.build_rules(rule_settings, held.catalogue, held.interactions, sources=names, now=held.now)
        self.rule_stats = RuleStats(self.rules)
        narrowed = replace(held, catalogue=replace(held.catalogue, sellable=self.rules.allowed))
        self.sources = dict(zip(names, sources.create_sources(names, narrowed), strict=True))
        self._popular = sources.create_popular(narrowed)
        self._content = held.content
        self._gone: BoolArray | None = None
        self._diversity = DiversityReranker.of(held.recommend, held.catalogue, held.content)
        self._features = features.FeatureExtractor(list(self.sources.values()), build_product_statistics(held))
        co_purchase = self.sources.get(CoPurchaseSource.name)
        self._reasons = reasons.ReasonGenerator(
            held.catalogue,
            held.interactions,
            sources=names,
            now=held.now,
            days=held.recommend.popular_days,
            pairs=co_purchase.neighbours if isinstance(co_purchase, CoPurchaseSource) else None,
        )

    @staticmethod
    def build(
        catalogue: Catalogue,
        interactions: Interactions,
        *,
        model: Model,
        content: FloatArray,
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
            ConfigError: a rule names an unknown column, or the rules leave no product.
        """
        if not len(interactions):
            raise DataContractError("there are no events; run 'recsys ingest' with events such as purchases")
        moment = int(interactions.time.max()) + 1 if now is None else now
        held = sources.SourceContext(catalogue, interactions, model, content, recommend, moment)
        return Recommender(held, blend=blend, rule_settings=rules, users=users)

    def with_new_interactions(self, interactions: Interactions, rule: rules.RuleSet, *, gone: BoolArray) -> None:
        """Make lists for newer histories with what was learned before.

        Args:
            interactions: all events, users row by row as before.
            rule: the rules as they are by now.
            gone: (n,) bool, products that are not sold any more; lists go on with the next best.
        """
        self.interactions, self.rules, self._gone = interactions, rule, gone
        self.rule_stats = RuleStats(rule)
        self._popular.order = self._popular.order[~gone[self._popular.order]]

    def with_diversity(self, *, diversity: float, calibration: float) -> Recommender:
        """The same with other weights against likeness and for the user's mix; nothing is made anew."""
        asked = {**self.settings.model_dump(), "diversity": diversity, "calibration": calibration}
        twin = copy(self)
        twin.settings, twin.rule_stats = RecommendSettings(**asked), RuleStats(self.rules)
        twin._diversity = DiversityReranker.of(twin.settings, self.catalogue, self._content)
        return twin

    def recommend_batch(self, histories: Histories, k: int) -> Recommendations:
        """The lists of some users; k long wherever that many products may be sold to them."""
        return Recommendations.concat([self._block(histories, start, k) for start in range(0, len(histories), BLOCK)])

    def score_candidates(self, some: Histories, k: int) -> ScoredCandidates:
        """The candidates of some users, at most `BLOCK`, for lists of k places."""
        users = UserBatch(some, self.now)
        made, asked = list(self.sources.values()), max(self.settings.candidates, k)
        pairs = retrieve_candidates(made, users, asked, self.rules.filters, drops=self.rule_stats)
        x = self._features.transform(pairs, users)
        score = rank_scores(self.blend, x, pairs.user, some.mask)
        if self._gone is None:
            return ScoredCandidates(some, pairs, x, score)
        kept = ~self._gone[pairs.item]
        self.rule_stats.filtered["sold_out"] += int((~kept).sum())
        return ScoredCandidates(some, pairs.take(kept), x[kept], score[kept])

    def to_recommendations(
        self, found: ScoredCandidates, kept: IntArray, *, rank: IntArray, score: FloatArray
    ) -> Recommendations:
        """Some of the candidates, `kept` (m,), as places with rank, score and what reasons need."""
        pairs = found.pairs
        part = np.where(pairs.proposed_by[kept], self.blend.score_by_source(found.x[kept]), -np.inf)
        for place, name in enumerate(self.names):
            if name == "repurchase":  # nothing says more to a customer than that it was bought before
                part[pairs.proposed_by[kept, place], place] = np.inf
            elif (
                name in _UNEXPLAINED_SOURCES
            ):  # they cannot name a product, so another source speaks unless it says far less
                part[:, place] *= np.where(part[:, place] > 0, _UNNAMED, 1)
        source = part.argmax(axis=1) if len(kept) else np.zeros(0, np.int64)
        because = pairs.source_item[kept, source]
        user = pairs.user[kept]
        kind = explaining_event_types(found.histories, user, because)
        return Recommendations(user, rank, pairs.item[kept], score, source, because, kind)

    def _block(self, histories: Histories, start: int, k: int) -> Recommendations:
        stop = min(start + BLOCK, len(histories))
        some = take_histories(histories, np.arange(start, stop))
        found = self.score_candidates(some, k)
        chosen = self._rerank(found, k) if self.rules.lists or self._diversity else self._best(found, k)
        popular = self.names.index("popular") if "popular" in self.names else len(self.names)
        lists = backfill(
            chosen,
            k,
            users=len(some),
            order=self._popular.order,
            barred=lambda: self.rules.barred(some),
            n=len(self.catalogue),
            source=popular,
        )
        self.rule_stats.made(lists, len(some), k, popular=len(lists.user) - len(chosen.user))
        return lists.with_user_offset(start)

    def _best(self, found: ScoredCandidates, k: int) -> Recommendations:
        """The k best candidates of each user."""
        pairs, score = found.pairs, found.score
        order = argsort_by_user_score(pairs.user, score)  # pairs are sorted by item already
        place = np.arange(len(order)) - np.searchsorted(pairs.user[order], pairs.user[order])
        kept = order[place < k]
        return self.to_recommendations(found, kept, rank=place[place < k] + 1, score=score[kept])

    def _rerank(self, found: ScoredCandidates, k: int) -> Recommendations:
        """k candidates of each user, chosen place by place under the rules about lists and for diversity."""
        pool = RankedPool.of(found.pairs.user, found.pairs.item, found.score, users=len(found.histories))
        gain = self._diversity.begin(pool, found.histories, k) if self._diversity else None
        choice = select_greedy(pool, k, rules=self.rules.lists, gain=gain)
        self.rule_stats.chosen(choice)
        user, place = np.nonzero(choice.column >= 0)
        column = choice.column[user, place]
        item, score = np.full(choice.column.shape, -1, np.int64), np.full(choice.column.shape, -np.inf, np.float32)
        item[user, place], score[user, place] = pool.item[user, column], pool.score[user, column]
        return self.to_recommendations(
            found, pool.row[user, column], rank=place + 1, score=non_increasing_scores(score, item)[user, place]
        )

    def recommend_rows(self, histories: Histories, k: int) -> IntArray:
        """Product rows alone: (b, k), -1 = no product."""
        found = self.recommend_batch(histories, k)
        out = np.full((len(histories), k), -1, np.int64)
        out[found.user, found.rank - 1] = found.item
        return out

    def recommend(self, user_ids: Sequence[str], k: int) -> pl.DataFrame:
        """Lists by user id: user_id, rank, product_id, score, reason, reason_product_id.

        A user the data does not know has no history and gets what everybody without one gets.
        """
        ids = list(dict.fromkeys(user_ids))
        return self._frame(self.recommend_batch(self.histories(self.users.rows(ids)), k), ids)

    def default(self, k: int) -> pl.DataFrame:
        """The list of `__default__`: of a user without history."""
        return self.recommend([schema.DEFAULT_USER], k)

    def stream(self, users: IntArray, k: int, *, chunk: int, skip: set[int]) -> Iterator[tuple[int, pl.DataFrame, int]]:
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
            yield shard, self.recommend_shard(rows, k, first=shard == 0), len(rows)

    def recommend_shard(self, rows: IntArray, k: int, *, first: bool) -> pl.DataFrame:
        """The lists of some users by row, as `recommend` gives them, the list of `__default__` before the `first`."""
        frame = self._frame(self.recommend_batch(self.histories(rows), k), self.users.ids(rows))
        return pl.concat([self.default(k), frame]) if first else frame

    def histories(self, rows: IntArray) -> Histories:
        """What is known of some users, by row (-1 = nothing): the last events of each, the same in any company."""
        return self.interactions.histories(rows, _LAST)

    def explain(self, lists: Recommendations) -> list[str]:
        """The reason of each place, in words: (m,)."""
        return self._reasons.explain(lists)

    def _frame(self, lists: Recommendations, ids: Sequence[str]) -> pl.DataFrame:
        stems = lists.because >= 0
        stem_ids = np.full(len(lists.item), None, object)
        stem_ids[stems] = self.catalogue.ids.ids(lists.because[stems])
        held = (
            [ids[at] for at in lists.user.tolist()],
            lists.rank,
            self.catalogue.ids.ids(lists.item),
            lists.score.astype(np.float64),
            self.explain(lists),
            stem_ids.tolist(),
        )
        return pl.DataFrame(dict(zip(_SHOWN, held, strict=True)), schema=_SHOWN)
