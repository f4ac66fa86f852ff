"""Models the encoder's tests share; they are not changed.

In: the tiny shop. Out: fixtures `products` (product encoder only) and `both` (with a user encoder).
"""

from __future__ import annotations

import numpy as np
import pytest

from recsys.encoder.model import Model
from recsys.encoder.training.train import train_users
from tests.encoder import shops


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return shops.trained(tmp_path_factory.mktemp("products"))


@pytest.fixture(scope="session")
def both(products: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    content = products.encode(shops.catalogue(), np.arange(48))
    return train_users(
        products,
        content,
        shops.catalogue(),
        shops.interactions(),
        objectives=shops.OBJECTIVES,
        training=shops.TRAINING,
        folder=tmp_path_factory.mktemp("users"),
        progress=False,
    )
