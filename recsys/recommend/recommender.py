"""The recommendation pipeline: retrieve candidates, rank them, apply the rules, backfill, explain.

In: user ids, user rows or histories. Out: k ranked products per user with score and reason, as `Recommendations` or,
with ids, as a frame. The order in which positions are filled is documented in `rules.rule_set.RuleSet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import polars as pl

from recsys.config import PrivacySettings, RecommendSettings, RuleSettings
from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.holdout import take_histories
from recsys.data.id_map import IdMap
from recsys.data.interactions import Histories, Interactions
from recsys.encoder.model import Model
from recsys.errors import DataContractError, ModelFolderError
from recsys.recommend.candidates.co_purchase import CoPurchaseSource
from recsys.recommend.candidates.per_user import argsort_by_user_score
from recsys.recommend.candidates.registry import SourceContext, create_popular, create_sources
from recsys.recommend.candidates.source import UserBatch
from recsys.recommend.ranking.diversity import DiversityReranker
from recsys.recommend.ranking.features import FeatureExtractor
from recsys.recommend.ranking.linear import Ranker, rank_scores
from recsys.recommend.ranking.statistics import build_product_statistics
from recsys.recommend.reasons import ASSOCIATION_SOURCES, ReasonGenerator
from recsys.recommend.recommendations import Recommendations, explaining_event_types, non_increasing_scores
from recsys.recommend.retrieval import ScoredCandidates, retrieve_candidates
from recsys.recommend.rules.backfill import backfill
from recsys.recommend.rules.list_constraints import MarginalGain, RankedPool, select_greedy
from recsys.recommend.rules.list_repair import repair_lists
from recsys.recommend.rules.rule_set import RuleSet, build_rules
from recsys.recommend.rules.statistics import RuleStats
from recsys.types import BoolArray, FloatArray, IntArray

_MAX_HISTORY = 200
"""Most recent events of a user that are used."""
_UNEXPLAINED_SOURCES, _UNEXPLAINED_FACTOR = ("sequence", "popular"), 0.5
"""Sources that cannot name a product in a reason, and the factor on their contribution when a reason is chosen."""
_WITHHELD = np.float32(-1e30)
"""Contribution of a source whose link to another product too few customers share; all others explain before it."""
_RECENT_PERIODS = 4
"""What lies within this many times `popular_days` was done 'lately'."""
_FRAME_SCHEMA = {schema.USER_ID: pl.String, "rank": pl.Int64, schema.PRODUCT_ID: pl.String, "score": pl.Float64}
_FRAME_SCHEMA |= {"reason": pl.String, "reason_product_id": pl.String}
USER_BATCH_SIZE = 512
"""Users scored at once; bounds memory."""


class Recommender:
    """Makes recommendations; built once from the data, the models and the settings.

    One batch of users goes through these steps:

    1. retrieval: every candidate source retrieves products, the candidate filters of the rules remove pairs;
    2. ranking: the ranker scores the features of the remaining pairs (`score_candidates`);
    3. rules: the k best are selected, under the list constraints and for diversity if there are any;
    4. backfill: popular products fill the positions that are left;
    5. recommendations: flat arrays with the fields that reasons need (`to_recommendations`), then ids and reasons.

    Attributes:
        catalogue: n products.
        interactions: events of all users.
        users: ids of the users, row by row those of `interactions`.
        settings: the section [recommend].
        now: UTC seconds at which recommendations are made.
        ranker: scores the candidates.
        source_names: names of the candidate sources, in order.
        sources: the candidate sources by name, in order; they search among `rules.allowed_mask`.
        rules: all rules of the project.
        rule_stats: effects of the rules on the recommendations made so far.
    """

    def __init__(
        self,
        context: SourceContext,
        *,
        ranker: Ranker,
        rule_settings: RuleSettings,
        users: IdMap,
        privacy: PrivacySettings = PrivacySettings(),  # noqa: B008 - frozen
    ) -> None:
        names = context.recommend.sources
        if tuple(names) != ranker.sources:
            raise ModelFolderError(
                f"the ranker was fitted for {', '.join(ranker.sources)}, but recommend.sources is {', '.join(names)}; "
                "run 'recsys train ranker'"
            )
        self.catalogue, self.interactions, self.users = context.catalogue, context.interactions, users
        self.settings, self.now, self.ranker, self.source_names = context.recommend, context.now, ranker, list(names)
        self.rules = build_rules(rule_settings, context.catalogue, context.interactions, sources=names, now=context.now)
        self.rule_stats = RuleStats(self.rules)
        allowed_context = replace(context, catalogue=replace(context.catalogue, sellable=self.rules.allowed_mask))
        self.sources = dict(zip(names, create_sources(names, allowed_context), strict=True))
        self._popular = create_popular(allowed_context)
        self._content = context.content
        self._discontinued: BoolArray | None = None
        self._diversity = DiversityReranker.from_settings(context.recommend, context.catalogue, context.content)
        self._features = FeatureExtractor(list(self.sources.values()), build_product_statistics(context))
        co_purchase = self.sources.get(CoPurchaseSource.name)
        self._reasons = ReasonGenerator(
            context.catalogue,
            context.interactions,
            sources=names,
            now=context.now,
            popular_days=context.recommend.popular_days,
            co_purchase_pairs=co_purchase.neighbours if isinstance(co_purchase, CoPurchaseSource) else None,
            min_customers=privacy.min_customers,
        )

    @staticmethod
    def build(
        catalogue: Catalogue,
        interactions: Interactions,
        *,
        model: Model,
        content: FloatArray,
        ranker: Ranker,
        recommend: RecommendSettings,
        rules: RuleSettings,
        users: IdMap,
        now: int | None = None,
        privacy: PrivacySettings = PrivacySettings(),  # noqa: B008 - frozen
    ) -> Recommender:
        """Build the sources, the rules and the statistics.

        Args:
            catalogue: n products.
            interactions: all events.
            model: encoder.
            content: (n, d) product vectors.
            ranker: fitted for the same sources.
            recommend: the section [recommend].
            rules: the section [rules].
            users: ids of the users, row by row those of `interactions`.
            now: UTC seconds at which recommendations are made; None = one second after the last event.
            privacy: the section [privacy].

        Raises:
            DataContractError: there are no events, so there is neither popularity nor a user profile.
            ModelFolderError: the ranker was fitted for other sources.
            ConfigError: a rule names an unknown column, or the rules leave no product.
        """
        if not len(interactions):
            raise DataContractError("there are no events; run 'recsys ingest' with events such as purchases")
        moment = interactions.last_time + 1 if now is None else now
        context = SourceContext(catalogue, interactions, model, content, recommend, moment)
        return Recommender(context, ranker=ranker, rule_settings=rules, users=users, privacy=privacy)

    # Entry points: by user id, by user row, by history.

    def recommend(self, user_ids: Sequence[str], k: int) -> pl.DataFrame:
        """Recommend by user id: user_id, rank, product_id, score, reason, reason_product_id.

        An unknown user has no history and gets the same recommendations as all users without one.
        """
        ids = list(dict.fromkeys(user_ids))
        return self._to_frame(self.recommend_batch(self.histories(self.users.rows(ids)), k), ids)

    def recommend_default(self, k: int) -> pl.DataFrame:
        """Return the recommendations of `__default__`: of a user without a history."""
        return self.recommend([schema.DEFAULT_USER], k)

    def recommend_shard(self, rows: IntArray, k: int, *, include_default: bool) -> pl.DataFrame:
        """Recommend by user row, as a frame like that of `recommend`.

        Args:
            rows: (b,) user rows.
            k: length of the lists.
            include_default: put the recommendations of `__default__` first.
        """
        frame = self._to_frame(self.recommend_batch(self.histories(rows), k), self.users.ids(rows))
        return pl.concat([self.recommend_default(k), frame]) if include_default else frame

    def recommend_rows(self, histories: Histories, k: int) -> IntArray:
        """Return only the product rows: (b, k), -1 = no product."""
        recommendations = self.recommend_batch(histories, k)
        out = np.full((len(histories), k), -1, np.int64)
        out[recommendations.user, recommendations.rank - 1] = recommendations.item
        return out

    def recommend_batch(self, histories: Histories, k: int) -> Recommendations:
        """Recommend k products per user, fewer only if the hard rules leave fewer."""
        return Recommendations.concat(
            [self._recommend_block(histories, start, k) for start in range(0, len(histories), USER_BATCH_SIZE)]
        )

    # Steps of the pipeline, in order.

    def _recommend_block(self, all_histories: Histories, start: int, k: int) -> Recommendations:
        """Run all steps for the users from `start`, at most `USER_BATCH_SIZE`."""
        stop = min(start + USER_BATCH_SIZE, len(all_histories))
        histories = take_histories(all_histories, np.arange(start, stop))
        scored = self.score_candidates(histories, k)
        selected = (
            self._rerank(scored, k) if self.rules.list_constraints or self._diversity else self._select_best(scored, k)
        )
        popular_source = (
            self.source_names.index("popular") if "popular" in self.source_names else len(self.source_names)
        )
        recommendations = backfill(
            selected,
            k,
            n_users=len(histories),
            popular_items=self._popular.ranked_items,
            excluded=lambda: self.rules.excluded_pairs(histories),
            n_items=len(self.catalogue),
            popular_source=popular_source,
        )
        n_backfilled = len(recommendations.user) - len(selected.user)
        self.rule_stats.add_recommendations(recommendations, len(histories), k, n_backfilled=n_backfilled)
        return recommendations.with_user_offset(start)

    def histories(self, rows: IntArray) -> Histories:
        """Return the most recent events of users by row (-1 = no history), independent of the batch."""
        return self.interactions.histories(rows, _MAX_HISTORY)

    def score_candidates(self, histories: Histories, k: int) -> ScoredCandidates:
        """Retrieve and score the candidates of at most `USER_BATCH_SIZE` users, for lists of length k."""
        users = UserBatch(histories, self.now)
        sources, n_candidates = list(self.sources.values()), max(self.settings.candidates, k)
        pairs = retrieve_candidates(sources, users, n_candidates, self.rules.filters, rule_stats=self.rule_stats)
        x = self._features.transform(pairs, users)
        score = rank_scores(self.ranker, x, pairs.user, histories.mask)
        if self._discontinued is None:
            return ScoredCandidates(histories, pairs, x, score)
        keep_mask = ~self._discontinued[pairs.item]
        self.rule_stats.filtered_pairs["sold_out"] += int((~keep_mask).sum())
        return ScoredCandidates(histories, pairs.filter(keep_mask), x[keep_mask], score[keep_mask])

    def _select_best(self, scored: ScoredCandidates, k: int) -> Recommendations:
        """Select the k best candidates of each user."""
        pairs, score = scored.pairs, scored.score
        order = argsort_by_user_score(pairs.user, score)  # pairs are sorted by item already
        position = np.arange(len(order)) - np.searchsorted(pairs.user[order], pairs.user[order])
        rows = order[position < k]
        return self.to_recommendations(scored, rows, rank=position[position < k] + 1, score=score[rows])

    def _rerank(self, scored: ScoredCandidates, k: int) -> Recommendations:
        """Select k candidates of each user position by position, under the list constraints and for diversity."""
        pool = RankedPool.from_candidates(
            scored.pairs.user, scored.pairs.item, scored.score, n_users=len(scored.histories)
        )
        constraints, diversity = self.rules.list_constraints, self._diversity
        gain = diversity.begin(pool, scored.histories, k) if diversity else None
        selection = select_greedy(pool, k, constraints=constraints, gain=gain)

        def begin_gain(chosen: RankedPool, users: IntArray) -> MarginalGain:
            assert diversity is not None
            return diversity.begin(chosen, take_histories(scored.histories, users), k)

        selection = repair_lists(
            pool, k, selection, constraints=constraints, begin_gain=begin_gain if diversity else None
        )
        self.rule_stats.add_selection(selection)
        user, position = np.nonzero(selection.column >= 0)
        column = selection.column[user, position]
        shape = selection.column.shape
        item, score = np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32)
        item[user, position], score[user, position] = pool.item[user, column], pool.score[user, column]
        list_score = non_increasing_scores(score, item)[user, position]
        return self.to_recommendations(scored, pool.row[user, column], rank=position + 1, score=list_score)

    def to_recommendations(
        self, scored: ScoredCandidates, rows: IntArray, *, rank: IntArray, score: FloatArray
    ) -> Recommendations:
        """Convert the candidates at `rows` to recommendations, with the source that explains each.

        Args:
            scored: candidates of a batch.
            rows: (m,) candidates to convert.
            rank: (m,) 1..k.
            score: (m,) float32.
        """
        pairs, item = scored.pairs, scored.pairs.item[rows]
        contribution = np.where(pairs.proposed_by[rows], self.ranker.score_by_source(scored.x[rows]), -np.inf)
        for index, name in enumerate(self.source_names):
            if name == "repurchase":  # a past purchase of the product is the strongest reason
                contribution[pairs.proposed_by[rows, index], index] = np.inf
            elif name in _UNEXPLAINED_SOURCES:  # prefer a source that names a product, unless it contributes far less
                contribution[:, index] *= np.where(contribution[:, index] > 0, _UNEXPLAINED_FACTOR, 1)
            elif name in ASSOCIATION_SOURCES:
                proposed = np.flatnonzero(pairs.proposed_by[rows, index])
                may_tell = self._reasons.may_associate(pairs.source_item[rows[proposed], index], item[proposed])
                contribution[proposed[~may_tell], index] = _WITHHELD
        source = contribution.argmax(axis=1) if len(rows) else np.zeros(0, np.int64)
        is_told = contribution[np.arange(len(rows)), source] != _WITHHELD
        source_item = np.where(is_told, pairs.source_item[rows, source], -1)
        user, since = pairs.user[rows], self.now - _RECENT_PERIODS * self.settings.popular_days * schema.DAY
        event_type = explaining_event_types(scored.histories, user, source_item, since=since)
        return Recommendations(user, rank, item, score, source, source_item, event_type)

    def explain(self, recommendations: Recommendations) -> list[str]:
        """Return the reason sentence of each recommendation: (m,)."""
        return self._reasons.explain(recommendations)

    def _to_frame(self, recommendations: Recommendations, user_ids: Sequence[str]) -> pl.DataFrame:
        """Map rows to ids and add the reasons; `user_ids` are those of the batch."""
        has_source_item = recommendations.source_item >= 0
        source_item_ids = np.full(len(recommendations.item), None, object)
        source_item_ids[has_source_item] = self.catalogue.ids.ids(recommendations.source_item[has_source_item])
        columns = (
            [user_ids[position] for position in recommendations.user.tolist()],
            recommendations.rank,
            self.catalogue.ids.ids(recommendations.item),
            recommendations.score.astype(np.float64),
            self.explain(recommendations),
            source_item_ids.tolist(),
        )
        return pl.DataFrame(dict(zip(_FRAME_SCHEMA, columns, strict=True)), schema=_FRAME_SCHEMA)

    # Changes to a recommender that is already built.

    def update_interactions(self, interactions: Interactions, rules: RuleSet, *, discontinued: BoolArray) -> None:
        """Switch to newer histories in place, without rebuilding sources and statistics.

        Args:
            interactions: all events; the users keep their rows.
            rules: the current rules.
            discontinued: (n,) bool, products that are no longer sold; the next best candidates replace them.
        """
        self.interactions, self.rules, self._discontinued = interactions, rules, discontinued
        self.rule_stats = RuleStats(rules)
        self._popular.ranked_items = self._popular.ranked_items[~discontinued[self._popular.ranked_items]]

    def with_diversity(self, *, diversity: float, calibration: float) -> Recommender:
        """Return a copy with other diversity and calibration weights; it shares sources, ranker and statistics."""
        settings = {**self.settings.model_dump(), "diversity": diversity, "calibration": calibration}
        other = copy(self)
        other.settings, other.rule_stats = RecommendSettings(**settings), RuleStats(self.rules)
        other._diversity = DiversityReranker.from_settings(other.settings, self.catalogue, self._content)
        return other
