"""The learned ranker: boosted trees that put what was bought above the other candidates of the same user.

In: features of the candidates of some users, and which of them were bought. Out: `BoostedTreesRanker`, kept as text. Trees and
weights err in different places: their sum ranks better than either wherever there are few users to learn from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recsys.errors import ModelFolderError
from recsys.recommend.ranking.linear import LinearRanker
from recsys.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import lightgbm

log = logging.getLogger(__name__)

_JUDGED_AT = 10
_PATIENCE = 40
_QUARTERS, _ALL_QUARTERS = 4, 10_000
"""Up to so many users, all quarters judge."""
_LEANS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""What the weights' score is multiplied with in the sum."""
_LEAVES = ((5_000, 7), (20_000, 15))
"""Leaves of a tree while fewer users than that are learned from; more where there are more."""
_MOST_LEAVES = 31
_PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [_JUDGED_AT],
    "lambdarank_truncation_level": 2 * _JUDGED_AT,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True)
class BoostedTreesRanker:
    """LambdaMART (Burges 2010) by LightGBM (Ke et al. 2017), and the blend it is added to.

    Attributes:
        blend: fitted on the same candidates; says what each source adds, which a tree cannot.
        text: the model as LightGBM writes it.
        lean: what the blend's score is multiplied with before it is added to that of the trees; 0 = trees alone.
        importance: share of the total gain of each feature, the largest first.
        ndcg: NDCG@10 of the sum and of weights alone on users neither was fitted on, of those with a hit among the
            candidates; the second is nan when it was not asked for.
    """

    blend: LinearRanker
    text: str = field(repr=False)
    linear_weight: float
    importance: dict[str, float] = field(repr=False)
    ndcg: tuple[float, float]

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources it was fitted for, in order."""
        return self.blend.sources

    @property
    def n_users(self) -> int:
        """Users it was fitted on."""
        return self.blend.n_users

    def score(self, x: FloatArray) -> FloatArray:
        """Score of each candidate, comparable within a user: (m,) float32."""
        if not len(x):
            return np.zeros(0, np.float32)
        grown = np.asarray(self._booster.predict(x))
        return np.asarray(grown + self.linear_weight * self.blend.score(x) if self.linear_weight else grown, np.float32)

    def score_by_source(self, x: FloatArray) -> FloatArray:
        """What each source's own features add in the blend: (m, s) float32."""
        return self.blend.score_by_source(x)

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=self.text)
        except lightgbm.basic.LightGBMError as error:
            raise ModelFolderError(f"the trees cannot be read ({error}); fit them again with: train ranker") from error
        if booster.feature_name() != list(self.blend.names):
            raise ModelFolderError("the trees were fitted by another version; fit them again with: train ranker")
        return booster


def fit_lambdamart(
    x: FloatArray,
    user: IntArray,
    bought: BoolArray,
    *,
    blend: LinearRanker,
    weigh: Callable[[BoolArray], LinearRanker] | None,
    rounds: int,
    learning_rate: float,
    seed: int,
) -> BoostedTreesRanker | None:
    """Boost trees; None when the weights alone rank as well on users that neither was fitted on.

    Each quarter of the users is ranked by trees and weights of the other three. How many trees there are, and how far
    their sum leans on the weights, is chosen on all quarters together; then the trees are grown again on everybody. Of
    very many users one quarter is enough.

    Args:
        x: (m, f) features.
        user: (m,) user of each row, ascending; every user has a hit.
        bought: (m,) was it bought afterwards.
        blend: fitted on all users; what the trees are kept with.
        weigh: fits weights on some rows (m,) bool, for the trees to be added to and to beat; None = the trees are to
            stand alone, whatever the weights can do.
        rounds: trees at most.
        learning_rate: of the boosting.
        seed: of the quarters and of the sampling of rows and features.
    """
    import lightgbm

    _, number, sizes = np.unique(user, return_inverse=True, return_counts=True)
    people = len(sizes)
    quarter = (np.random.default_rng((seed, 6)).permutation(people) % _QUARTERS)[number]
    asked = range(_QUARTERS if people <= _ALL_QUARTERS else 1)
    leaves = next((few for below, few in _LEAVES if people < below), _MOST_LEAVES)
    how = {**_PARAMETERS, "num_leaves": leaves, "learning_rate": learning_rate, "seed": seed}
    data = lightgbm.Dataset(
        x, bought.astype(np.int8), group=sizes, feature_name=list(blend.names), params=how, free_raw_data=False
    )
    trial: Any = lightgbm.cv(
        how,
        data,
        num_boost_round=rounds,
        folds=[(np.flatnonzero(quarter != one), np.flatnonzero(quarter == one)) for one in asked],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
        return_cvbooster=True,
    )["cvbooster"]
    grown, flat = np.zeros(len(x)), np.zeros(len(x))
    for one, booster in zip(asked, trial.boosters, strict=True):
        rows = quarter == one
        grown[rows] = booster.predict(x[rows], num_iteration=trial.best_iteration)
        flat[rows] = weigh(~rows).score(x[rows]) if weigh else 0
    some = quarter < len(asked)
    grown, flat, owner, hit = grown[some], flat[some], user[some], bought[some]
    found = {lean: ndcg(grown + lean * flat, owner, hit) for lean in (_LEANS if weigh else (0.0,))}
    lean = max(found, key=lambda one: found[one])
    ours, theirs, count = found[lean], ndcg(flat, owner, hit) if weigh else float("nan"), len(np.unique(owner))
    if ours <= theirs:
        log.warning(
            "ranker: trees are no better than the fitted weights (NDCG@10 %.4f and %.4f on %d users neither had seen); "
            "the weights are used",
            ours,
            theirs,
            count,
        )
        return None
    log.info("ranker: NDCG@10 %.4f with trees, %.4f with weights, on %d users neither had seen", ours, theirs, count)
    booster = lightgbm.train(how, data, num_boost_round=trial.best_iteration)
    gain = booster.feature_importance("gain")
    order = np.argsort(-gain, kind="stable")
    whole = max(float(gain.sum()), 1e-12)
    importance = {blend.names[at]: round(float(gain[at]) / whole, 5) for at in order.tolist() if gain[at] > 0}
    return BoostedTreesRanker(blend, booster.model_to_string(), lean, importance, (ours, theirs))


def ndcg(score: npt.NDArray[np.floating], user: IntArray, bought: BoolArray) -> float:
    """Mean NDCG@10 over users, ties by position; every user has a hit."""
    order = np.lexsort((np.arange(len(user)), -score, user))
    _, first, group = np.unique(user[order], return_index=True, return_inverse=True)
    place = np.arange(len(order)) - first[group]
    hit = bought[order]
    discount = np.where(place < _JUDGED_AT, 1 / np.log2(place + 2), 0)
    gained = np.bincount(group, discount * hit)
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(_JUDGED_AT) + 2))])
    return float((gained / ideal[np.minimum(np.bincount(group, hit), _JUDGED_AT).astype(int)]).mean())
