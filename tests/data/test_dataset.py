"""What was written to the store comes back as rows, the same every time."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys.config import DataSettings, ImageSettings
from recsys.data import input_sources as sources
from recsys.data import schema
from recsys.data.dataset import Dataset, catalogue_from_frame, load
from recsys.data.image_store import ImageStore
from recsys.data.ingest import ingest
from recsys.errors import DataContractError
from recsys.store.input_tables import write_inputs
from recsys.store.store import Store

NOW = 1_700_000_000
PRODUCTS = [
    {
        "product_id": "b",
        "title": "Bee",
        "price": 2.5,
        "available": "no",
        "attributes": '{"size": 3, "tags": ["x", "y"]}',
    },
    {"product_id": "B", "title": None, "price": None, "available": "yes", "attributes": '{"size": 4}'},
    {"product_id": "007", "title": "Zero", "price": 7.0, "available": None, "attributes": None},
    {"product_id": "é", "title": "Accent", "price": 1.0, "available": "1", "attributes": None},
]
EVENTS = [
    {
        "user_id": "u2",
        "product_id": "b",
        "occurred_at": "2023-01-02T10:00:00+01:00",
        "event_type": "purchase",
        "quantity": 2,
    },
    {"user_id": "u1", "product_id": "007", "occurred_at": "2023-01-03", "event_type": "view", "quantity": None},
    {"user_id": "u1", "product_id": "b", "occurred_at": "2023-01-01", "event_type": "return", "quantity": 1},
    {"user_id": "u1", "product_id": "b", "occurred_at": "2023-01-01", "event_type": "purchase", "quantity": 1},
    {"user_id": "u1", "product_id": "b", "occurred_at": "2023-01-01", "event_type": "purchase", "quantity": 1},
]
USERS = [{"user_id": "u9", "attributes": '{"age": 3}'}, {"user_id": "u1", "attributes": None}]


@pytest.fixture
def pictures(tmp_path: Path) -> ImageStore:
    out = BytesIO()
    Image.new("RGB", (8, 8), (50, 0, 0)).save(out, "PNG")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "é.png").write_bytes(out.getvalue())
    return ImageStore(tmp_path / "cache", ImageSettings(size=16))


def _load(folder: Path, pictures: ImageStore, **settings: object) -> Dataset:
    frames = {"products": pl.DataFrame(PRODUCTS), "events": pl.DataFrame(EVENTS), "users": pl.DataFrame(USERS)}
    parts = sources.inputs_from_frames(frames)
    found = ingest(parts, settings=DataSettings(), image_store=pictures, image_paths=[folder / "images"], now=NOW)
    with Store.open(f"sqlite:///{folder}/shop.db") as store:
        store.init()
        for _ in range(2):  # the same again changes nothing
            write_inputs(store, found.accepted, found.rejected, sources=found.sources, image_files=found.new_images)
        return load(store.engine, DataSettings(**settings), image_store=pictures)  # type: ignore[arg-type]


def test_rows_follow_the_bytes_of_the_ids(tmp_path: Path, pictures: ImageStore) -> None:
    dataset = _load(tmp_path, pictures)
    catalogue = dataset.catalogue
    assert catalogue.ids.texts == ("007", "B", "b", "é")
    assert catalogue.sellable.tolist() == [True, True, False, True]
    assert catalogue.frame["price"].to_list() == [7.0, None, 2.5, 1.0]
    assert catalogue.frame["attributes.size"].to_list() == [None, 4.0, 3.0, None]
    assert catalogue.frame["attributes.tags"].to_list() == [None, None, "x | y", None]
    assert schema.ATTRIBUTES not in catalogue.frame.columns
    assert catalogue.images.present.tolist() == [False, False, False, True]
    assert catalogue.frame[schema.IMAGE_HASH].is_not_null().to_list() == [False, False, False, True]
    assert catalogue.images.take(np.array([3]))[0, 0, 3, 3] == 50


def test_events_become_rows_times_kinds_and_weights(tmp_path: Path, pictures: ImageStore) -> None:
    dataset = _load(tmp_path, pictures)
    assert dataset.users.texts == ("u1", "u2", "u9")
    assert dataset.users_to_score().tolist() == [0, 1, 2]
    events = dataset.interactions
    assert events.starts.tolist() == [0, 2, 3, 3]
    assert events.item.tolist() == [2, 0, 2]
    assert events.time.tolist() == [1_672_531_200, 1_672_704_000, 1_672_650_000]
    assert [schema.EVENT_TYPES[code] for code in events.event_type.tolist()] == ["purchase", "view", "purchase"]
    assert events.weight.tolist() == pytest.approx([1.0, 0.2, 2.0])
    assert dataset.counts["events"] == 3
    # one of the two equal purchases was sent back
    assert (dataset.counts["returns"], dataset.counts["purchases_returned"]) == (1, 1)
    assert dataset.counts["users_with_events"] == 2


def test_products_nobody_bought_may_be_left_out(
    tmp_path: Path, pictures: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _load(tmp_path, pictures, catalogue="bought_or_pictured")
    assert dataset.catalogue.ids.texts == ("007", "b", "é")
    assert dataset.counts["products_left_out"] == 1
    assert dataset.interactions.item.tolist() == [1, 0, 1]
    # "B" is neither bought nor pictured, but it is said to be available
    assert _load(tmp_path, pictures).counts["products_left_out"] == 0
    monkeypatch.setitem(PRODUCTS[1], "available", None)
    assert _load(tmp_path, pictures).counts["products_left_out"] == 1
    assert _load(tmp_path, pictures, catalogue="all").counts["products_left_out"] == 0


def test_the_fingerprint_moves_with_the_data(
    tmp_path: Path, pictures: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _load(tmp_path, pictures).fingerprint
    assert _load(tmp_path, pictures).fingerprint == first
    monkeypatch.setitem(PRODUCTS[0], "title", "Wasp")
    second = _load(tmp_path, pictures).fingerprint
    monkeypatch.setitem(USERS[0], "user_id", "u8")
    assert len({first, second, _load(tmp_path, pictures).fingerprint}) == 3


def test_an_empty_store_is_an_empty_dataset(tmp_path: Path, pictures: ImageStore) -> None:
    with Store.open(f"sqlite:///{tmp_path}/empty.db") as store:
        store.init()
        dataset = load(store.engine, DataSettings(), image_store=pictures)
    assert (len(dataset.catalogue), len(dataset.interactions), len(dataset.users)) == (0, 0, 0)
    assert dataset.counts["first_event"] is None


def test_a_catalogue_of_any_frame_keeps_its_order() -> None:
    catalogue = catalogue_from_frame(
        pl.DataFrame({"title": ["Z", "A"], "colour": ["red", None], "available": [None, "no"]})
    )
    assert catalogue.ids.texts == ("0", "1")
    assert catalogue.frame["title"].to_list() == ["Z", "A"]
    assert catalogue.frame["attributes.colour"].to_list() == ["red", None]
    assert catalogue.sellable.tolist() == [True, False]
    with pytest.raises(DataContractError, match="row 2: price 'x' is not a number"):
        catalogue_from_frame(pl.DataFrame({"price": ["1", "x"]}))
    with pytest.raises(DataContractError, match="twice"):
        catalogue_from_frame(pl.DataFrame({"product_id": ["a", "a"]}))
