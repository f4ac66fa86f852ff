"""One ingest of several tables: products first, pictures to their products, everything counted."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from recsys.config import DataSettings, ImageSettings
from recsys.data import input_files
from recsys.data import rejected_rows as rejects
from recsys.data.image_store import ImageStore
from recsys.data.ingest import IngestResult, ingest
from recsys.errors import DataContractError

NOW = 1_700_000_000
LENIENT = DataSettings(max_bad_fraction=1)


def _png(colour: int = 9) -> bytes:
    out = BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(out, "PNG")
    return out.getvalue()


def _run(
    folder: Path, files: dict[str, str | bytes], *, settings: DataSettings = LENIENT, **options: object
) -> IngestResult:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    store = ImageStore(folder.parent / "pictures", ImageSettings(size=16))
    return ingest(
        input_files.read_inputs([folder]).tables,
        settings=settings,
        image_store=store,
        image_paths=input_files.find_image_archives([folder]),
        now=NOW,
        **options,  # type: ignore[arg-type]
    )


PRODUCTS = "product_id,title,price,image\n1,One,5,\n2,Two,6,second.png\n"
PRODUCTS += "3,Three,7,none.jpg\n4,Four,8,text.jpg\n5,Five,,cut.jpg\n"
EVENTS = "user_id,product_id,occurred_at,quantity\nu,1,2023-01-01,1\nu,9,2023-01-01,1\nv,2,2023-01-02,1\nv,2\n"


def _cut() -> bytes:
    out = BytesIO()
    Image.effect_noise((90, 90), 90).save(out, "JPEG")
    return out.getvalue()[:-900]


def test_everything_is_counted_and_bad_rows_are_kept_aside(tmp_path: Path) -> None:
    found = _run(
        tmp_path / "shop",
        {
            "products.csv": PRODUCTS,
            "events.csv": EVENTS,
            "images/1.png": _png(),
            "images/second.png": _png(),
            "images/text.jpg": "hello",
            "images/cut.jpg": _cut(),
        },
    )
    assert {
        table: (each["rows_in"], each["used"], each["rejected"])
        for table, each in found.counts.items()
        if table != "images"
    } == {
        "products": (5, 5, 0),
        "events": (4, 2, 2),
    }
    assert found.counts["images"]["used"] == 2
    assert found.counts["images"]["rejected_by"] == {"image_missing": 1, "image_not_a_picture": 1, "image_truncated": 1}
    assert found.accepted["products"]["image"].to_list() == ["1.png", "second.png", "none.jpg", "text.jpg", "cut.jpg"]
    messages = [rejects.message(row) for row in found.rejected.iter_rows(named=True)]
    assert "events row 3: product_id '9' is not in the catalogue; ingest products first, or mend the id" in messages
    assert (
        "events row 5: the line cannot be read: it has 2 fields where the first line has 4; mend it or take it out"
        in messages
    )
    assert "images product '3': image 'none.jpg' is not among the images; check the names in column image" in messages
    assert (
        "images product '4': image 'text.jpg' is no JPEG, PNG, GIF or WebP inside, whatever its name; export it again"
        in messages
    )
    assert "images product '5': image 'cut.jpg' is cut off; copy it again" in messages
    assert len(found.warnings) == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"products.csv": "product_id,title\n"}, "the catalogue is empty"),
        ({"events.csv": "user_id,product_id,occurred_at\n"}, "there are no events"),
        ({"products.csv": PRODUCTS + ",Six,\n"}, "1 of 6 rows of shop/products.csv were rejected"),
    ],
)
def test_a_broken_contract_is_exit_code_3(tmp_path: Path, files: dict[str, str], words: str) -> None:
    with pytest.raises(DataContractError, match=words) as caught:
        _run(tmp_path / "shop", files, settings=DataSettings())
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_events_may_name_products_of_an_earlier_ingest_and_pictures_belong_to_them(tmp_path: Path) -> None:
    found = _run(
        tmp_path / "shop",
        {"events.csv": EVENTS, "images/9.png": _png(), "images/77.png": _png()},
        known_products={"1", "2", "9"},
    )
    assert found.counts["events"]["used"] == 3
    assert found.new_images == {"9": "9.png"}
    assert ImageStore(tmp_path / "pictures", ImageSettings(size=16)).hash_of("9")


def test_rows_two_files_share_count_once(tmp_path: Path) -> None:
    head = "user_id,product_id,occurred_at,quantity\n"
    found = _run(
        tmp_path / "shop",
        {
            "products.csv": "product_id,title\n1,Old\n2,Two\n",
            "products_2.csv": "product_id,title\n1,New\n",
            "events_1.csv": head + "u,1,2023-01-01,1\nu,1,2023-01-01,1\n",
            "events_2.csv": head + "u,1,2023-01-01,3\nu,2,2023-01-01,1\n",
        },
    )
    assert sorted(found.accepted["products"]["title"].to_list()) == ["New", "Two"]
    assert found.accepted["events"].select("product_id", "line_no", "quantity").rows() == [
        ("1", 1, 1.0),
        ("1", 0, 3.0),
        ("2", 0, 1.0),
    ]
    for table in ("products", "events"):
        counts = found.counts[table]
        assert counts["filtered_by"] == {"given_again": 1}
        assert counts["rows_in"] == counts["used"] + counts["rejected"] + counts["filtered"]


def test_the_content_hash_moves_with_the_content_only(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"products.csv": "product_id,title\n1,One\n2,Two\n", "images/1.png": _png()}

    def hashes() -> list[str]:
        return _run(tmp_path / "shop", files).accepted["products"]["content_hash"].to_list()

    first = hashes()
    assert hashes() == first
    files["images/1.png"] = _png(99)
    pictured = hashes()
    assert [new == old for new, old in zip(pictured, first, strict=True)] == [False, True]
    files["products.csv"] = "product_id,title\n1,One\n2,Zwei\n"
    assert [new == old for new, old in zip(hashes(), pictured, strict=True)] == [True, False]


def test_pictures_that_are_named_and_not_given_are_told(tmp_path: Path) -> None:
    found = _run(tmp_path / "shop", {"products.csv": PRODUCTS})
    assert found.warnings == ("products: 4 name an image, but no images were given (--images)",)


def test_the_real_files(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hm"
    folder.mkdir()
    articles = pl.read_parquet(shared_data / "hm-fashion-sample/articles.parquet").head(3000)
    articles.write_parquet(folder / "articles.parquet")
    (folder / "transactions.parquet").symlink_to(shared_data / "hm-fashion-sample/transactions.parquet")
    found = ingest(input_files.read_inputs([folder], preset="hm").tables, settings=LENIENT, now=NOW)
    counts = found.counts["events"]
    assert counts["rows_in"] == 31_662 == counts["used"] + counts["rejected"]
    assert set(counts["rejected_by"]) == {"unknown_product"}
    assert found.accepted["events"]["occurred_at"].min() == 1_537_401_600
    assert found.accepted["products"]["product_id"].str.len_chars().unique().to_list() == [10]
    assert found.accepted["products"].filter(pl.col("product_id") == "0108775015")["title"].item() == "Strap top"
