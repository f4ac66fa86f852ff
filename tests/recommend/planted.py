"""Candidates whose buyers follow a planted rule, for the tests of the learned rankers.

In: the rule, a number of users, a seed. Out: features, users, what was bought.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from recsys.config import RankerSettings, RuleSettings
from recsys.recommend.ranking import features
from recsys.recommend.ranking import training as rehearsal

SOURCES = ("sequence", "popular")
NAMES = features.feature_names(SOURCES)


def choices(rule, *, users=1200, each=10, seed=0):
    """Users who choose one of `each` candidates: x (m, f), user (m,), bought (m,).

    Rules: `linear`, a weight a feature; `crossed`, two features of the same sign, which no weight can say; `noise`.
    """
    g = np.random.default_rng([seed, users, each])
    x = g.normal(size=(users * each, len(NAMES))).astype(np.float32)
    worth = {
        "linear": lambda: x @ (0.5 * g.normal(size=len(NAMES))),
        "crossed": lambda: 3 * np.sign(x[:, 0] * x[:, 1]),
        "noise": lambda: np.zeros(len(x)),
    }[rule]()
    liking = (worth + g.gumbel(size=len(x))).reshape(users, each)
    bought = np.zeros((users, each), bool)
    bought[np.arange(users), liking.argmax(axis=1)] = True
    return x, np.repeat(np.arange(users), each), bought.ravel()


def fitted(data, *, seed=0, **settings):
    """What `fit_on` makes of such candidates under some [ranker] settings."""
    users = int(data[1].max()) + 1
    knowledge = SimpleNamespace(recommend=SimpleNamespace(sources=SOURCES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "build_examples", lambda *_, **__: data)
        return rehearsal.fit_ranker_on_holdout(
            [(range(users), knowledge)],  # only their number is asked for
            rule_settings=RuleSettings(),
            ranker=RankerSettings(**settings),
            seed=seed,
        )
