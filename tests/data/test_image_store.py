"""Pictures are decoded safely, kept once, and a bad one costs nothing but itself."""

from __future__ import annotations

import os
import struct
import time
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recsys.config import ImageSettings
from recsys.data import image_decoding as decode_room
from recsys.data import rejected_rows as rejects
from recsys.data.id_map import IdMap
from recsys.data.image_archive import ImageArchive
from recsys.data.image_decoding import ImageError, decode_image
from recsys.data.image_store import ImageStore
from recsys.errors import ConfigError, ModelFolderError, UsageError

SETTINGS = ImageSettings(size=32)


def _bytes(image: Image.Image, name: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def _plain(colour: tuple[int, ...] = (200, 30, 30), size: tuple[int, int] = (40, 40), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def _png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP"])
def test_every_format_by_its_content(name: str) -> None:
    pixels = decode_image(_bytes(_plain(), name), SETTINGS)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array([200, 30, 30])[:, None, None]).max() <= 6


def test_a_tall_picture_is_padded_with_the_colour_of_its_border() -> None:
    image = _plain((250, 250, 250), (20, 60))
    image.paste((10, 20, 200), (6, 20, 14, 40))
    pixels = decode_image(_bytes(image), SETTINGS)
    assert (pixels[:, :, 0] == 250).all()
    assert (pixels[:, :, -1] == 250).all()
    assert (pixels[:, 16, 16] == [10, 20, 200]).all()


def test_transparent_is_white_and_sixteen_bits_are_eight() -> None:
    assert (decode_image(_bytes(Image.new("RGBA", (9, 9), (255, 0, 0, 0))), SETTINGS) == 255).all()
    grey = Image.fromarray(np.full((9, 9), 0x8000, np.uint16))
    assert (decode_image(_bytes(grey), SETTINGS) == 0x80).all()
    assert decode_image(_bytes(Image.new("CMYK", (9, 9)), "JPEG"), SETTINGS).shape == (3, 32, 32)


def test_pictures_stand_upright() -> None:
    image = _plain((0, 0, 0), (40, 40))
    image.paste((255, 255, 255), (0, 0, 40, 20))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half
    pixels = decode_image(_bytes(image, "JPEG", exif=exif.tobytes()), SETTINGS)
    assert pixels[:, 4].mean() < 20
    assert pixels[:, -4].mean() > 235


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image_empty"),
        (b"this is a text that says .jpg", "image_not_a_picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_not_a_picture"),
        (_bytes(NOISE, "JPEG")[:-800], "image_truncated"),
        (_bytes(NOISE, "JPEG")[:30], "image_truncated"),
        (_bytes(NOISE, "PNG")[:-3000], "image_truncated"),
        (_bytes(NOISE, "WEBP")[:20], "image_truncated"),
        (b"\xff\xd8\xff\xe0\x00\x04abzz" + b"\x00" * 99, "image_broken"),
        (b"RIFF\x00\x00\x00\x00WEBPXXXX" + b"\x00" * 99, "image_broken"),
        (_png_header(9000, 9000), "image_too_large"),
        (_png_header(60_000, 60_000), "image_too_large"),
        (_png_header(0, 5), "image_broken"),
        (_bytes(_plain(size=(400, 2))), "image_too_long"),
        (b"\xff\xd8\xff" + b"\x00" * 3_000_000, "image_too_large"),
    ],
)
def test_each_bad_picture_has_its_code(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data, ImageSettings(size=32, max_megabytes=2))
    assert caught.value.code == code


def _with_scans(size: int, scans: int) -> bytes:
    """A progressive JPEG of one colour whose last scan is repeated."""
    data = _bytes(Image.new("L", (size, size), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("size", "scans", "is_refused"), [(200, 90, False), (200, 101, True), (4900, 20, False), (4900, 21, True)]
)
def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(size: int, scans: int, is_refused: bool) -> None:
    data = _with_scans(size, scans)
    if not is_refused:
        assert decode_image(data, SETTINGS).shape == (3, 32, 32)
        return
    start = time.monotonic()
    with pytest.raises(ImageError, match="image_too_many_scans"):
        decode_image(data, SETTINGS)
    assert time.monotonic() - start < 0.5


def test_a_jpeg_of_600_kilobytes_with_hundreds_of_scans_takes_no_time() -> None:
    data = _with_scans(4900, 14_000)
    assert len(data) > 600_000
    start = time.monotonic()
    with pytest.raises(ImageError, match="image_too_many_scans"):
        decode_image(data, SETTINGS)
    assert time.monotonic() - start < 0.5


def test_scans_of_a_thumbnail_do_not_count() -> None:
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + b"\xff\xda" * 30_000
    data = _bytes(_plain(), "JPEG")
    assert decode_image(data[:2] + comment + data[2:], SETTINGS).shape == (3, 32, 32)


@pytest.mark.parametrize("name", ["BMP", "TIFF", "AVIF"])
def test_other_formats_are_refused(name: str) -> None:
    with pytest.raises(ImageError, match="image_not_a_picture"):
        decode_image(_bytes(_plain(), name), SETTINGS)


def test_a_size_is_read_before_anything_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the decoder was asked")

    monkeypatch.setattr(Image, "open", refuse)
    for name in ("JPEG", "PNG", "GIF", "WEBP"):
        with pytest.raises(ImageError, match="image_too_large"):
            decode_image(_bytes(NOISE, name), ImageSettings(size=32, max_megapixels=0.001))
    with pytest.raises(ImageError, match="image_too_large"):
        decode_image(_bytes(NOISE, "WEBP", lossless=True), ImageSettings(size=32, max_megapixels=0.001))


@given(
    name=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 4000),
)
def test_damage_is_a_code_and_never_another_error(name: str, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(_bytes(NOISE, name)[: cut or None])
    for at, value in changes:
        data[at % len(data)] = value
    try:
        assert decode_image(bytes(data), SETTINGS).shape == (3, 32, 32)
    except ImageError as error:
        assert error.code in rejects._SENTENCES


def _folder(root: Path, **pictures: bytes) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        (root / f"{name}.png").write_bytes(data)
    return root


def _codes(frame: pl.DataFrame) -> dict[str, str]:
    return dict(frame.select("value_excerpt", "code").iter_rows())


def test_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    root = _folder(tmp_path / "images", inside=_bytes(_plain()))
    (tmp_path / "secret.png").write_bytes(_bytes(_plain()))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "same.png").symlink_to(root / "inside.png")
    (root / "nowhere.png").symlink_to(tmp_path / "none.png")
    os.mkfifo(root / "pipe.png")
    wanted = {
        "../secret.png": "image_outside_folder",
        str(tmp_path / "secret.png"): "image_outside_folder",
        "C:\\secret.png": "image_outside_folder",
        "..\\secret.png": "image_outside_folder",
        "link.png": "image_outside_folder",
        "nowhere.png": "image_outside_folder",
        "pipe.png": "image_not_a_file",
        "https://shop.example/a.png": "image_remote",
        "gone.png": "image_missing",
    }
    added = ImageStore(tmp_path / "cache", SETTINGS).add(
        root, {name: name for name in (*wanted, "same.png", "inside.png")}
    )
    assert _codes(added.problems) == wanted
    assert set(added.used) == {"same.png", "inside.png"}
    for row in added.problems.iter_rows(named=True):
        assert rejects.message(row).startswith("images product '")


def test_a_zip_and_its_traps(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("010/a.png", _bytes(_plain()))
        out.writestr("../b.png", _bytes(_plain()))
        out.writestr("bomb.png", b"\x00" * 3_000_000)
        out.writestr("text.jpg", b"hello")
    store = ImageStore(tmp_path / "cache", ImageSettings(size=32, max_megabytes=2))
    added = store.add(
        path, {"a": "010/a.png", "short": "a.png", "bomb": "bomb.png", "text": "text.jpg", "b": "../b.png"}
    )
    assert _codes(added.problems) == {
        "bomb.png": "image_too_large",
        "text.jpg": "image_not_a_picture",
        "../b.png": "image_outside_folder",
    }
    assert added.used == {"a": "010/a.png", "short": "a.png"}
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as held:
        start = held.getinfo("010/a.png").header_offset + 60
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    assert _codes(ImageStore(tmp_path / "other", SETTINGS).add(path, {"a": "010/a.png"}).problems) == {
        "010/a.png": "image_broken"
    }


def test_what_is_no_album(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(UsageError, match="not a readable zip"):
        ImageArchive(tmp_path / "x.zip")
    with pytest.raises(UsageError, match="no such folder or zip"):
        ImageArchive(tmp_path / "none")


def test_unchanged_files_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _folder(tmp_path / "images", a=_bytes(_plain()), b=_bytes(_plain((1, 2, 3))), c=b"no picture")
    names = {name: f"{name}.png" for name in "abc"}
    first = ImageStore(tmp_path / "cache", SETTINGS)
    added = first.add(root, names)
    assert (added.decoded, added.unchanged, len(first)) == (2, 0, 2)
    assert _codes(added.problems) == {"c.png": "image_not_a_picture"}
    (root / "b.png").write_bytes(_bytes(_plain((9, 9, 9))))
    again = ImageStore(tmp_path / "cache", SETTINGS)
    hashes = [again.hash_of(name) for name in "abc"]
    added = again.add(root, names)
    assert (added.decoded, added.unchanged) == (1, 2)
    assert _codes(added.problems) == {"c.png": "image_not_a_picture"}
    assert [again.hash_of(name) == old for name, old in zip("abc", hashes, strict=True)] == [True, False, True]

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("recsys.data.image_store.decode_image", refuse)
    assert again.add(root, names).decoded == 0


def test_pictures_follow_the_ids(tmp_path: Path) -> None:
    root = _folder(tmp_path / "images", a=_bytes(_plain((10, 0, 0))), b=_bytes(_plain((20, 0, 0))))
    store = ImageStore(tmp_path / "cache", SETTINGS)
    assert not store.images(IdMap(["a"])).present.any()
    store.add(root, {}, also=["a", "b", "z"])
    pictures = ImageStore(tmp_path / "cache", SETTINGS).images(IdMap(["b", "z", "a"]))
    assert pictures.present.tolist() == [True, False, True]
    assert pictures.take(np.array([0, 1, 2]))[:, 0, 5, 5].tolist() == [20, 0, 10]
    assert isinstance(pictures.pixels, np.memmap)
    assert not pictures.pixels.flags.writeable


def test_a_missing_file_leaves_the_picture_the_store_has(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "cache", SETTINGS)
    store.add(_folder(tmp_path / "one", a=_bytes(_plain())), {"a": "a.png"})
    added = store.add(_folder(tmp_path / "two", b=_bytes(_plain())), {"a": "a.png", "b": "b.png"})
    assert not added.problems.height
    assert store.hash_of("a")


def test_a_crash_before_the_index_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    ImageStore(cache, SETTINGS).add(_folder(tmp_path / "one", a=_bytes(_plain((10, 0, 0)))), {"a": "a.png"})
    more = _folder(tmp_path / "two", b=_bytes(_plain((20, 0, 0))), c=_bytes(_plain((30, 0, 0))))

    def fail(self: ImageStore) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ImageStore, "_write_index", fail)
        with pytest.raises(OSError, match="no space"):
            ImageStore(cache, SETTINGS).add(more, {"b": "b.png", "c": "c.png"})
    store = ImageStore(cache, SETTINGS)
    assert [name in store for name in "abc"] == [True, False, False]
    store.add(more, {"c": "c.png"})
    pictures = ImageStore(cache, SETTINGS).images(IdMap("abc"))
    assert pictures.rows.tolist() == [0, -1, 1]
    assert pictures.take(np.array([0, 2]))[:, 0, 0, 0].tolist() == [10, 30]
    assert (cache / "pixels.u8").stat().st_size == 2 * 3 * 32 * 32


def test_another_size_is_said_and_a_short_file_refused(tmp_path: Path) -> None:
    ImageStore(tmp_path / "c", SETTINGS).add(_folder(tmp_path / "i", a=_bytes(_plain())), {"a": "a.png"})
    with pytest.raises(ConfigError, match=r"decoded at 32 pixels, but \[images\] size = 48"):
        ImageStore(tmp_path / "c", ImageSettings(size=48))
    (tmp_path / "c" / "pixels.u8").write_bytes(b"short")
    with pytest.raises(ModelFolderError, match="shorter than its index"):
        ImageStore(tmp_path / "c", SETTINGS)


def test_the_order_of_decoding_does_not_matter(tmp_path: Path) -> None:
    pictures = {f"p{n}": _bytes(_plain((n, n, n))) for n in range(40)}
    root = _folder(tmp_path / "i", **pictures)
    for name in ("one", "two"):
        ImageStore(tmp_path / name, SETTINGS).add(root, {}, also=list(pictures))
    assert (tmp_path / "one/pixels.u8").read_bytes() == (tmp_path / "two/pixels.u8").read_bytes()


def _photographs(side: int) -> list[Image.Image]:
    """Real pictures, cut square."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(array[:427, :427]).resize((side, side)) for array in load_sample_images().images]


def _decibels(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two pictures."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize(
    ("side", "size", "unpacked"), [(600, 224, 300), (598, 224, 299), (1200, 64, 150), (160, 64, 160), (500, 224, 500)]
)
def test_a_jpeg_is_unpacked_at_a_part_of_its_size_and_looks_the_same(
    side: int, size: int, unpacked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    square = decode_room._pad_to_square

    def watched(image: Image.Image, size: int) -> np.ndarray:
        asked.append(image.size)
        return square(image, size)

    monkeypatch.setattr(decode_room, "_pad_to_square", watched)
    for photograph in _photographs(side):
        data = _bytes(photograph, "JPEG", quality=85)
        with Image.open(BytesIO(data)) as whole:
            in_full, bicubic = (
                np.asarray(whole.resize((size, size), by))
                for by in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
            )
        seen = decode_image(data, ImageSettings(size=size)).transpose(1, 2, 0)
        assert asked.pop() == (unpacked, unpacked)
        if not np.array_equal(seen, in_full):
            # Nearer to the picture unpacked in full than the choice of another filter would bring it.
            assert _decibels(seen, in_full) > max(36, _decibels(bicubic, in_full))


def test_a_long_jpeg_is_unpacked_by_its_longer_side(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(decode_room, "_pad_to_square", lambda image, size: asked.append(image.size))
    decode_image(_bytes(_plain(size=(640, 426)), "JPEG"), ImageSettings(size=224))
    assert asked == [(320, 213)]


def test_what_is_known_of_many_products_is_what_is_known_of_each(tmp_path: Path) -> None:
    root = _folder(tmp_path / "images", a=_bytes(_plain()), b=b"no picture", c=_bytes(_plain((1, 2, 3))))
    ids = ["c", "x", "a", "b"]
    store = ImageStore(tmp_path / "cache", SETTINGS)
    for one in (store, store, ImageStore(tmp_path / "cache", SETTINGS)):  # empty, filled, read back
        assert one.hashes(pl.Series(ids, dtype=pl.String)).to_list() == [one.hash_of(name) for name in ids]
        assert one.images(IdMap(ids)).present.tolist() == [name in one for name in ids]
        store.add(root, {name: f"{name}.png" for name in "abc"})
    assert [name in store for name in ids] == [True, False, True, False]
