"""Images as shops bring them: one file of each product is used, every other file is counted with a reason."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from recsys.config import ImageSettings
from recsys.data.image_matching import (
    NAMED_OTHERWISE,
    NO_PRODUCT,
    NOT_A_FILE,
    NOT_AN_IMAGE,
    NOT_FIRST,
    OUTSIDE,
    SEVERAL_PRODUCTS,
)
from recsys.data.image_store import AddResult, ImageStore


def _image(name: str = "JPEG") -> bytes:
    out = BytesIO()
    Image.new("RGB", (20, 20), (200, 30, 30)).save(out, name)
    return out.getvalue()


JPEG = _image()
TWENTY = [f"p{number}" for number in range(1, 21)]


def _add(
    tmp_path: Path, files: Mapping[str, bytes], *, names: Mapping[str, str] | None = None, ids: list[str] | None = None
) -> AddResult:
    """The same from a folder and from a zip."""
    folder = tmp_path / "images"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    results = [
        ImageStore(tmp_path / source.name.replace(".", "-"), ImageSettings(size=16)).add(
            source, names or {}, also=ids or [], source_name="images"
        )
        for source in (folder, tmp_path / "images.zip")
    ]
    assert results[0].used == results[1].used
    assert results[0].unused == results[1].unused
    assert results[0].problems.equals(results[1].problems)
    return results[0]


def _codes(result: AddResult) -> dict[str, str]:
    return dict(result.problems.select("value_excerpt", "code").iter_rows())


def test_every_file_of_a_mixed_folder_is_used_or_counted(tmp_path: Path) -> None:
    files = {
        "p1.jpg": JPEG,
        "p2.jpeg": JPEG,
        "p3.png": _image("PNG"),
        "p4.webp": _image("WEBP"),
        "p5.gif": _image("GIF"),
        "p6.bmp": _image("BMP"),
        "p7.tif": _image("TIFF"),
        "p8.jfif": JPEG,
        "p9.avif": _image("AVIF"),
        "P10.JPG": JPEG,
        "p11.JPG": JPEG,
        "p12.jpe": JPEG,
        "p13.jpg": _image("PNG"),
        "p14.png": JPEG,
        "p15.png": b"<html>not found</html>",
        "p16.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "p17.heic": b"\x00\x00\x00\x18ftypheic",
        "p18": JPEG,
        "p19_1.jpg": JPEG,
        "p19_2.jpg": JPEG,
        "p20-front.jpg": JPEG,
        "readme.txt": b"our images",
        "Thumbs.db": b"\xd0\xcf",
    }
    result = _add(tmp_path, files, ids=TWENTY)
    assert sorted(result.used.values(), key=str.lower) == sorted(
        ("p1.jpg p2.jpeg p3.png p4.webp p5.gif p8.jfif P10.JPG p11.JPG p12.jpe p13.jpg p14.png p18 p19_1.jpg").split(),
        key=str.lower,
    )
    assert result.used["p10"] == "P10.JPG" and result.used["p19"] == "p19_1.jpg"
    assert _codes(result) == {"p15.png": "image_not_a_picture"}
    assert result.unused == {
        **dict.fromkeys(
            ["p6.bmp", "p7.tif", "p9.avif", "p16.svg", "p17.heic", "readme.txt", "Thumbs.db"], NOT_AN_IMAGE
        ),
        "p19_2.jpg": NOT_FIRST,
        "p20-front.jpg": NO_PRODUCT,
    }
    assert len(result.used) + result.problems.height + len(result.unused) == len(files)


def test_a_folder_for_each_product_gives_its_first_image(tmp_path: Path) -> None:
    files = {f"images/p{number}/{name}.jpg": JPEG for number in range(1, 6) for name in (1, 2, 10)}
    files |= {"P7/front.jpg": JPEG, "p8/10.jpg": JPEG, "p8/9.jpg": JPEG, "p8/notes.txt": b"x", "other/1.jpg": JPEG}
    result = _add(tmp_path, files, ids=TWENTY)
    assert result.used == {
        **{f"p{number}": f"images/p{number}/1.jpg" for number in range(1, 6)},
        "p7": "P7/front.jpg",
        "p8": "p8/9.jpg",
    }
    assert result.unused["images/p1/2.jpg"] == NOT_FIRST
    assert result.unused["p8/notes.txt"] == NOT_AN_IMAGE and result.unused["other/1.jpg"] == NO_PRODUCT
    assert len(result.used) + len(result.unused) == len(files)


def test_folders_of_products_with_numbers_for_ids(tmp_path: Path) -> None:
    files = {f"{product}/{image}.jpg": JPEG for product in (1, 2, 3, 10) for image in range(1, 11)}
    result = _add(tmp_path, files, ids=["1", "2", "3", "10"])
    assert result.used == {product: f"{product}/1.jpg" for product in ("1", "2", "3", "10")}


def test_folders_that_split_many_files_are_no_products(tmp_path: Path) -> None:
    files = {"010/0108.jpg": JPEG, "010/0109.jpg": JPEG, "011/0110.jpg": JPEG}
    result = _add(tmp_path, files, ids=["0108", "0110", "010", "011"])
    assert result.used == {"0108": "010/0108.jpg", "0110": "011/0110.jpg"}
    assert result.unused == {"010/0109.jpg": NO_PRODUCT}


def test_numbered_files_count_where_no_file_has_just_the_id(tmp_path: Path) -> None:
    names = ["p1.jpg", "p1_1.jpg", "p2-2.jpg", "p2-1.jpg", "p3 (1).jpg", "p4_10.jpg", "p4_9.jpg", "p5-1.jpg", "p6.jpg"]
    result = _add(tmp_path, dict.fromkeys(names, JPEG), ids=["p1", "p2", "p3", "p4", "p5", "p5-1", "p6_1"])
    assert result.used == {
        "p1": "p1.jpg",
        "p2": "p2-1.jpg",
        "p3": "p3 (1).jpg",
        "p4": "p4_9.jpg",
        "p5-1": "p5-1.jpg",
    }
    assert result.unused == {
        "p1_1.jpg": NOT_FIRST,
        "p2-2.jpg": NOT_FIRST,
        "p4_10.jpg": NOT_FIRST,
        "p6.jpg": NO_PRODUCT,
    }


def test_another_case_counts_only_for_one_product(tmp_path: Path) -> None:
    names = ["A1.JPG", "b2.jpg", "B2.jpg", "u\u0308.jpg"]
    result = _add(tmp_path, dict.fromkeys(names, JPEG), ids=["a1", "b2", "\u00dc"])
    assert result.used == {"a1": "A1.JPG", "b2": "b2.jpg", "\u00dc": "u\u0308.jpg"}
    assert result.unused == {"B2.jpg": NOT_FIRST}
    result = _add(tmp_path / "twins", {"AB.jpg": JPEG}, ids=["ab", "Ab"])
    assert (result.used, result.unused) == ({}, {"AB.jpg": SEVERAL_PRODUCTS})


def test_names_in_the_image_column(tmp_path: Path) -> None:
    files = {f"p{number}.jpg": JPEG for number in range(1, 16)} | {"a/1.jpg": JPEG, "b/1.jpg": JPEG, "x,y.jpg": JPEG}
    names = {
        "p1": "images/p1.jpg",
        "p6": "./images/p6.jpg",
        "p9": "images\\p9.jpg",
        "p10": "P10.JPG",
        "p11": "p11.jpg, p12.jpg",
        "p12": "gone.jpg|p12.jpg|p1.jpg",
        "p13": "p13.png",
        "p14": "p14",
        "p15": "media%20x/p15.jpg",
        "p16": "images/b/1.jpg",
        "p17": "x,y.jpg",
        "p18": "none.jpg; neither.jpg",
        "p19": "../p1.jpg",
        "p20": "1.jpg",
    }
    result = _add(tmp_path, files, names=names)
    assert _codes(result) == {
        "p13.png": "image_missing",
        "none.jpg; neither.jpg": "image_missing",
        "../p1.jpg": "image_outside_folder",
        "1.jpg": "image_missing",
    }
    assert (result.used["p11"], result.used["p12"], result.used["p17"]) == ("p11.jpg", "p12.jpg", "x,y.jpg")
    assert set(result.used) == set(names) - {"p13", "p18", "p19", "p20"}
    assert result.unused == {
        **dict.fromkeys(["p2.jpg", "p3.jpg", "p4.jpg", "p5.jpg", "p7.jpg", "p8.jpg", "a/1.jpg"], NO_PRODUCT),
        "p13.jpg": NAMED_OTHERWISE,
    }


def test_a_url_is_the_file_that_was_loaded_from_it(tmp_path: Path) -> None:
    files = {f"p{number}.jpg": JPEG for number in range(1, 5)}
    files |= {"shoe one.jpg": JPEG, "main.jpg": JPEG, "p7/main.jpg": JPEG}
    names = {
        "p1": "https://cdn.example.com/files/p1.jpg?v=1",
        "p2": "https://cdn.example.com/files/8831.jpg",
        "p3": "//cdn.example.com/w_20,h_30/none.jpg, //cdn.example.com/p3.jpg",
        "p5": "https://cdn.example.com/shoe%20one.jpg#top",
        "p6": "https://cdn.example.com/p6/main.jpg",
        "p7": "https://cdn.example.com/p7/main.jpg",
        "p8": "data:image/png;base64,AAAA",
        "p9": "https://cdn.example.com/p9.jpg",
    }
    result = _add(tmp_path, files, names=names)
    assert result.used == {
        "p1": "p1.jpg",
        "p2": "p2.jpg",
        "p3": "p3.jpg",
        "p5": "shoe one.jpg",
        "p7": "p7/main.jpg",
    }
    assert _codes(result) == {names[product]: "image_remote" for product in ("p6", "p8", "p9")}
    assert result.unused == {"main.jpg": NO_PRODUCT, "p4.jpg": NO_PRODUCT}


def test_addresses_of_a_script_do_not_name_a_file(tmp_path: Path) -> None:
    names = {f"p{number}": f"https://shop.example/image?id={number}" for number in (1, 2)}
    result = _add(tmp_path, {"image.jpg": JPEG, "p2.jpg": JPEG}, names=names)
    assert (result.used, result.unused) == ({"p2": "p2.jpg"}, {"image.jpg": NO_PRODUCT})


def test_files_of_the_operating_system_are_no_images(tmp_path: Path) -> None:
    files = {"p1/1.jpg": JPEG, "__MACOSX/p1/._1.jpg": b"\x00\x05", "p2/.hidden.jpg": JPEG, "p2/2.jpg": JPEG}
    result = _add(tmp_path, files, ids=["p1", "p2"])
    assert result.used == {"p1": "p1/1.jpg", "p2": "p2/2.jpg"}
    assert result.unused == dict.fromkeys(["__MACOSX/p1/._1.jpg", "p2/.hidden.jpg"], NOT_AN_IMAGE)


def test_links_and_several_folders_are_counted_too(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p1.jpg").write_bytes(JPEG)
    (tmp_path / "one/out.jpg").symlink_to(tmp_path / "two/p1.jpg")
    (tmp_path / "one/loop.jpg").symlink_to(tmp_path / "one/loop.jpg")
    store = ImageStore(tmp_path / "cache", ImageSettings(size=16))
    result = store.add([tmp_path / "one", tmp_path / "two"], {}, also=["p1"])
    assert result.unused == {
        str(tmp_path / "two/p1.jpg"): NOT_FIRST,
        str(tmp_path / "one/out.jpg"): OUTSIDE,
        str(tmp_path / "one/loop.jpg"): NOT_A_FILE,
    }


@pytest.mark.parametrize("name", ["AVIF", "BMP", "TIFF"])
def test_another_format_that_the_column_names_is_refused(tmp_path: Path, name: str) -> None:
    result = _add(tmp_path, {"p1.jpg": _image(name)}, names={"p1": "p1.jpg"})
    assert _codes(result) == {"p1.jpg": "image_not_a_picture"}
    assert result.unused == {}
