"""Decode image files to small squares of pixels; dangerous files are rejected before they are decompressed.

In: bytes of a JPEG, PNG, GIF or WebP, recognised by content. Out: (3, S, S) uint8, or ImageError with a code.
"""

from __future__ import annotations

import re
import struct
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from recsys.config import ImageSettings
from recsys.errors import RecsysError

_MEGA: Final = 1_000_000
_OVERSIZE: Final = 4 / 3
"""A JPEG is decoded at the smallest of its scales (1, 1/2, 1/4, 1/8) that is at least this factor too large."""
# markers of a JPEG frame header: SOF0 to SOF15 without DHT, JPG, DAC
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
_NEXT_MARKER: Final = re.compile(rb"\xff+[\x02-\xcf\xd8-\xfe]")
"""A marker after the data of a scan, in which 0xFF is followed by 0 or by the marker of a restart."""
_MAX_SCANS: Final = 100
_USUAL_SCANS: Final = 20
"""The most scans that encoders write; a JPEG of any size may have this many."""
_MAX_SCANNED_MEGAPIXELS: Final = 500
"""Megapixels in all scans together: the decoder passes over the whole image for each scan."""
HEADER_BYTES: Final = 12
"""Bytes that identify the format of an image."""


class ImageError(RecsysError):
    """An unusable image; `code` is the reason in `rejected_rows`."""

    def __init__(self, code: str) -> None:
        super().__init__(f"image rejected ({code})")
        self.code = code


def decode_image(data: bytes, settings: ImageSettings) -> npt.NDArray[np.uint8]:
    """Decode an image: first frame, EXIF orientation, on white, resized to fit, padded to a square.

    The padding has the median colour of the border, so that a white background stays white.

    Returns:
        (3, S, S) uint8, S = settings.size.

    Raises:
        ImageError: the file is no image, is damaged, or is larger than the settings allow.
    """
    if len(data) > settings.max_megabytes * _MEGA:
        raise ImageError("image_too_large")
    if not data:
        raise ImageError("image_empty")
    name = _detect_format(data)
    width, height = _read_size(data, name)
    _check_limits(width, height, settings)
    if name == "JPEG":
        _check_scans(data, width * height / _MEGA)
    try:
        with Image.open(BytesIO(data), formats=[name]) as image:
            _check_limits(*image.size, settings)  # the size that the decoder reads
            if name == "JPEG":
                _set_decoding_scale(image, settings.size)
            image.load()
            return _pad_to_square(_to_rgb(ImageOps.exif_transpose(image)), settings.size)
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything on damaged input
        is_truncated = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise ImageError("image_truncated" if is_truncated else "image_broken") from error


def is_image(header: bytes) -> bool:
    """Return whether the first `HEADER_BYTES` of a file are those of an image that can be decoded."""
    try:
        _detect_format(header)
    except ImageError:
        return False
    return True


def _detect_format(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise ImageError("image_not_a_picture")


def _read_size(data: bytes, name: str) -> tuple[int, int]:
    """Read width and height from the header, without a decoder.

    Raises:
        ImageError: the header is truncated.
    """
    try:
        if name == "PNG":
            return struct.unpack(">II", data[16:24])
        if name == "GIF":
            return struct.unpack("<HH", data[6:10])
        return _webp_size(data) if name == "WEBP" else _jpeg_size(data)
    except (struct.error, IndexError) as error:
        raise ImageError("image_truncated") from error


def _webp_size(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ImageError("image_truncated" if len(data) < 30 else "image_broken")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    offset = 2
    while True:
        if data[offset] != 0xFF:
            raise ImageError("image_broken")
        marker = data[offset + 1]
        if marker == 0xFF:  # padding
            offset += 1
        elif marker in _FRAME_MARKERS:
            height, width = struct.unpack(">HH", data[offset + 5 : offset + 9])
            return width, height
        elif marker in _MARKERS_WITHOUT_LENGTH:
            offset += 2
        elif marker == _END_OF_IMAGE:
            raise ImageError("image_truncated")
        else:
            (length,) = struct.unpack(">H", data[offset + 2 : offset + 4])
            offset += 2 + length


def _check_scans(data: bytes, megapixels: float) -> None:
    """Refuse a JPEG with more scans than can be decoded in a few seconds; 600 kB can hold hundreds."""
    limit = max(_USUAL_SCANS, min(_MAX_SCANS, int(_MAX_SCANNED_MEGAPIXELS / max(megapixels, 1e-6))))
    if data.count(bytes((0xFF, _START_OF_SCAN))) > limit and _has_more_scans(data, limit):
        raise ImageError("image_too_many_scans")


def _has_more_scans(data: bytes, limit: int) -> bool:
    """Return whether a JPEG has more scans than `limit`; those of an embedded thumbnail are not counted."""
    scans, offset = 0, 2
    while scans <= limit:
        found = _NEXT_MARKER.search(data, offset)
        if found is None:
            return False
        marker, offset = data[found.end() - 1], found.end()
        scans += marker == _START_OF_SCAN
        if marker not in _MARKERS_WITHOUT_LENGTH and marker != _END_OF_IMAGE:
            offset += int.from_bytes(data[offset : offset + 2], "big")
    return True


def _check_limits(width: int, height: int, settings: ImageSettings) -> None:
    if not width or not height:
        raise ImageError("image_broken")
    if width * height > settings.max_megapixels * _MEGA:
        raise ImageError("image_too_large")
    if max(width, height) > settings.max_aspect * min(width, height):
        raise ImageError("image_too_long")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel: keep the upper eight
        grey = np.asarray(image, dtype=np.float64)
        return Image.fromarray((grey / 256.0).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _set_decoding_scale(image: Image.Image, size: int) -> None:
    """Decode a JPEG at a fraction of its size: from 600 to 300 pixels for a target of 224 takes half the time.

    The effect on the pixels is smaller than that of another resampling filter.
    """
    scale = _OVERSIZE * size / max(image.size)
    width, height = (max(1, int(side * scale)) for side in image.size)
    image.draft("RGB", (width, height))


def _pad_to_square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))
    if (width, height) == (size, size):
        return np.ascontiguousarray(small.transpose(2, 0, 1))
    edges = (small[:, 0], small[:, -1]) if width < height else (small[0], small[-1])
    border = np.sort(np.concatenate(edges), axis=0)[len(edges[0])]  # the median, upper one of two
    pixels = np.empty((3, size, size), np.uint8)
    pixels[:] = border[:, None, None]
    top, left = (size - height) // 2, (size - width) // 2
    pixels[:, top : top + height, left : left + width] = small.transpose(2, 0, 1)
    return pixels
