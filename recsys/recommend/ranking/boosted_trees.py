"""The boosted-trees ranker: LambdaMART on the candidates' features, added to the linear ranker's score.

In: features of the candidates of a sample of users, and which were bought. Out: `BoostedTreesRanker`, stored as text.
Trees and linear weights make different errors: with few users to learn from, their sum ranks better than either.
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
from recsys.evaluate import metrics
from recsys.recommend.ranking.linear import LinearRanker
from recsys.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import lightgbm

log = logging.getLogger(__name__)

_NDCG_CUTOFF = 10
_EARLY_STOPPING_ROUNDS = 40
_N_FOLDS, _MAX_USERS_ALL_FOLDS = 4, 10_000
"""Cross-validation folds of users, and the number of users up to which every fold is evaluated."""
_LINEAR_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Candidate weights of the linear score in the sum."""
_LEAVES_BELOW_USERS = ((5_000, 7), (20_000, 15))
"""Leaves per tree with fewer training users than the first number."""
_MAX_LEAVES = 31
_PARAMETERS: dict[str, Any] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [_NDCG_CUTOFF],
    "lambdarank_truncation_level": 2 * _NDCG_CUTOFF,
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
    """LambdaMART (Burges 2010) by LightGBM (Ke et al. 2017), plus a weighted linear ranker.

    Attributes:
        linear: fitted on the same candidates; attributes the score to sources, which trees cannot.
        model_text: the model in LightGBM's text format.
        linear_weight: factor on the linear score before it is added to the trees' score; 0 = trees alone.
        importance: share of the total gain per feature, the largest first.
        holdout_ndcg: NDCG@10 of the sum and of the linear score alone, cross-validated on users neither was fitted on
            who have a hit among their candidates; the second is nan if it was not evaluated.
    """

    linear: LinearRanker
    model_text: str = field(repr=False)
    linear_weight: float
    importance: dict[str, float] = field(repr=False)
    holdout_ndcg: tuple[float, float]

    @property
    def sources(self) -> tuple[str, ...]:
        """The candidate sources it was fitted for, in order."""
        return self.linear.sources

    @property
    def n_users(self) -> int:
        """Users it was fitted on."""
        return self.linear.n_users

    def score(self, x: FloatArray) -> FloatArray:
        """Score each candidate, comparable within a user: (m,) float32."""
        if not len(x):
            return np.zeros(0, np.float32)
        tree_score = np.asarray(self._booster.predict(x))
        return np.asarray(
            tree_score + self.linear_weight * self.linear.score(x) if self.linear_weight else tree_score, np.float32
        )

    def score_by_source(self, x: FloatArray) -> FloatArray:
        """Compute the part of the linear score that each source's own features contribute: (m, s) float32."""
        return self.linear.score_by_source(x)

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=self.model_text)
        except lightgbm.basic.LightGBMError as error:
            raise ModelFolderError(
                f"boosted-trees ranker: cannot be read ({error}); run 'recsys train ranker'"
            ) from error
        if booster.feature_name() != list(self.linear.feature_names):
            raise ModelFolderError("boosted-trees ranker: fitted by another version; run 'recsys train ranker'")
        return booster


def fit_lambdamart(
    x: FloatArray,
    user: IntArray,
    bought: BoolArray,
    *,
    linear: LinearRanker,
    fit_linear: Callable[[BoolArray], LinearRanker] | None,
    rounds: int,
    learning_rate: float,
    seed: int,
) -> BoostedTreesRanker | None:
    """Boost trees; return None if the linear ranker scores as well on users that neither was fitted on.

    Each fold of users is scored by trees and weights fitted on the other folds. The number of trees and the weight of
    the linear score in the sum are chosen on all folds together; then the trees are refitted on all users. With more
    than `_MAX_USERS_ALL_FOLDS` users, one fold is enough.

    Args:
        x: (m, f) features.
        user: (m,) user of each row, ascending; every user has a hit.
        bought: (m,) bool, bought afterwards.
        linear: fitted on all users; becomes part of the ranker.
        fit_linear: fits a linear ranker on the rows of a mask (m,) bool, to be added to the trees and to be the
            baseline; None = fit trees alone and return them without a comparison.
        rounds: maximum number of trees.
        learning_rate: of the boosting.
        seed: of the folds and of the sampling of rows and features.
    """
    import lightgbm

    _, user_index, sizes = np.unique(user, return_inverse=True, return_counts=True)
    n_users = len(sizes)
    fold_of_row = (np.random.default_rng((seed, 6)).permutation(n_users) % _N_FOLDS)[user_index]
    folds = range(_N_FOLDS if n_users <= _MAX_USERS_ALL_FOLDS else 1)
    n_leaves = next((leaves for below_users, leaves in _LEAVES_BELOW_USERS if n_users < below_users), _MAX_LEAVES)
    params = {**_PARAMETERS, "num_leaves": n_leaves, "learning_rate": learning_rate, "seed": seed}
    data = lightgbm.Dataset(
        x,
        bought.astype(np.int8),
        group=sizes,
        feature_name=list(linear.feature_names),
        params=params,
        free_raw_data=False,
    )
    cv_booster: Any = lightgbm.cv(
        params,
        data,
        num_boost_round=rounds,
        folds=[(np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)) for fold in folds],
        callbacks=[lightgbm.early_stopping(_EARLY_STOPPING_ROUNDS, verbose=False)],
        return_cvbooster=True,
    )["cvbooster"]
    tree_score, linear_score = np.zeros(len(x)), np.zeros(len(x))
    for fold, booster in zip(folds, cv_booster.boosters, strict=True):
        rows = fold_of_row == fold
        tree_score[rows] = booster.predict(x[rows], num_iteration=cv_booster.best_iteration)
        linear_score[rows] = fit_linear(~rows).score(x[rows]) if fit_linear else 0
    evaluated = fold_of_row < len(folds)
    tree_score, linear_score = tree_score[evaluated], linear_score[evaluated]
    fold_user, hit = user[evaluated], bought[evaluated]
    ndcg_by_weight = {
        weight: ndcg(tree_score + weight * linear_score, fold_user, hit)
        for weight in (_LINEAR_WEIGHTS if fit_linear else (0.0,))
    }
    linear_weight = max(ndcg_by_weight, key=lambda weight: ndcg_by_weight[weight])
    sum_ndcg, linear_ndcg = (
        ndcg_by_weight[linear_weight],
        ndcg(linear_score, fold_user, hit) if fit_linear else float("nan"),
    )
    n_evaluated = len(np.unique(fold_user))
    if sum_ndcg <= linear_ndcg:
        log.warning(
            "ranker: trees are no better than the linear weights (NDCG@10 %.4f and %.4f on %d held-out users); "
            "using the linear weights",
            sum_ndcg,
            linear_ndcg,
            n_evaluated,
        )
        return None
    log.info(
        "ranker: NDCG@10 %.4f with trees, %.4f with linear weights, on %d held-out users",
        sum_ndcg,
        linear_ndcg,
        n_evaluated,
    )
    booster = lightgbm.train(params, data, num_boost_round=cv_booster.best_iteration)
    gain = booster.feature_importance("gain")
    order = np.argsort(-gain, kind="stable")
    total_gain = max(float(gain.sum()), 1e-12)
    importance = {
        linear.feature_names[column]: round(float(gain[column]) / total_gain, 5)
        for column in order.tolist()
        if gain[column] > 0
    }
    return BoostedTreesRanker(linear, booster.model_to_string(), linear_weight, importance, (sum_ndcg, linear_ndcg))


def ndcg(score: npt.NDArray[np.floating], user: IntArray, bought: BoolArray) -> float:
    """Compute the mean NDCG@10 over users, ties by position; every user has a hit."""
    order = np.lexsort((np.arange(len(user)), -score, user))
    _, first, user_index = np.unique(user[order], return_index=True, return_inverse=True)
    rank = np.arange(len(order)) - first[user_index]
    hit, is_listed = bought[order], rank < _NDCG_CUTOFF
    hits = np.zeros((len(first), _NDCG_CUTOFF), np.bool_)
    hits[user_index[is_listed], rank[is_listed]] = hit[is_listed]
    n_bought = np.bincount(user_index, hit).astype(np.int64)
    return float(metrics.ndcg(hits, n_bought, _NDCG_CUTOFF).mean())
