import numpy as np
import pytest
import torch

from recsys.data.id_map import IdMap
from recsys.data.interactions import Histories
from recsys.encoder.model import Model
from recsys.encoder.user_encoder import UserEncoder, time_gap_buckets
from recsys.errors import UsageError
from tests.encoder import shops

DAY = 86400


@pytest.fixture(scope="module")
def users() -> UserEncoder:
    torch.manual_seed(0)
    return UserEncoder(IdMap(["a", "b"]), shops.ENCODER).eval()


def run(users: UserEncoder, items: torch.Tensor, times: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return users(items, times=times, kinds=torch.zeros_like(times), real=real, until=times + DAY)


def test_later_events_change_nothing_before_them(users: UserEncoder) -> None:
    items, times, real = torch.randn(3, 6, 16), torch.arange(6).expand(3, 6) * DAY, torch.ones(3, 6, dtype=torch.bool)
    before = run(users, items, times, real)
    changed = items.clone()
    changed[:, 4:] = torch.randn(3, 2, 16)
    after = run(users, changed, times, real)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert bool((before[:, 4:] != after[:, 4:]).any())


def test_filling_in_front_changes_nothing(users: UserEncoder) -> None:
    items, times, real = torch.randn(2, 3, 16), torch.arange(3).expand(2, 3) * DAY, torch.ones(2, 3, dtype=torch.bool)
    fill = torch.full((2, 3), 7)
    longer = run(
        users, torch.cat([torch.randn(2, 3, 16), items], 1), torch.cat([fill, times], 1), torch.cat([~real, real], 1)
    )
    torch.testing.assert_close(longer[:, 3:], run(users, items, times, real), atol=1e-5, rtol=1e-5)


def test_spans_double() -> None:
    assert time_gap_buckets(torch.tensor([-5, 0, 59, 60, 120, 240, DAY, 10**12])).tolist() == [0, 0, 0, 1, 2, 3, 11, 27]


def histories(rows: list[list[int]], last: int = 9) -> Histories:
    items = np.array([[-1] * (last - len(row)) + row for row in rows], np.int64)
    times = np.where(items >= 0, 1_600_000_000 + DAY * np.arange(last), 0)
    return Histories(np.arange(len(rows)), items, times, np.zeros(items.shape, np.int8))


def test_user_vectors_fit_the_ranking_vectors(both: Model) -> None:
    catalogue = shops.catalogue()
    content = both.encode(catalogue, np.arange(48))
    items = both.item_vectors(content, catalogue.ids)
    vectors = both.user_vectors(histories([[0, 4, 8], [], [1] * 9]), items, now=1_700_000_000, batch_size=2)
    assert items.shape == (48, 16)
    assert vectors.shape == (3, 16)
    assert vectors.dtype == items.dtype == np.float32
    assert np.abs(vectors[0]).max() > 0
    assert not vectors[1].any()
    np.testing.assert_allclose(
        both.user_vectors(histories([[0, 4, 8]], last=3), items, now=1_700_000_000)[0], vectors[0], atol=1e-4
    )


def test_now_matters_but_not_before_the_last_event(both: Model) -> None:
    catalogue = shops.catalogue()
    items = both.item_vectors(both.encode(catalogue, np.arange(48)), catalogue.ids)
    at_once, earlier, later = (
        both.user_vectors(histories([[0, 4]]), items, now=now) for now in (1_600_000_000 + 8 * DAY, 0, 1_700_000_000)
    )
    np.testing.assert_array_equal(at_once, earlier)
    assert np.abs(at_once - later).max() > 0


def test_cold_products_have_their_content_and_no_residual(both: Model) -> None:
    catalogue = shops.catalogue()
    content = both.encode(catalogue, np.arange(48))
    assert set(both.user_encoder.ids.texts) == {
        catalogue.ids.texts[i] for i in np.flatnonzero(shops.interactions().counts())
    }
    known = both.item_vectors(content, catalogue.ids)
    strangers = both.item_vectors(content, IdMap(f"new{i}" for i in range(48)))
    same = np.abs(known - strangers).max(1) == 0
    assert same.tolist() == (shops.interactions().counts() == 0).tolist()
    assert same[-8:].all()


def test_a_model_without_user_encoder_says_so(products: Model) -> None:
    with pytest.raises(UsageError, match="no user encoder"):
        products.item_vectors(np.zeros((48, 16), np.float32), shops.catalogue().ids)
