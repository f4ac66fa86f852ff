"""An input file: plain, compressed, or a member of a zip; opened as bytes or as text in the right encoding.

In: a path, possibly with the name of a member. Out: streams.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, TextIO

from recsys.errors import UsageError

COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".zstd")
AUTO: Final = "auto"
_SAMPLE_BYTES: Final = 1 << 20
_MIN_BAD_LINES: Final = 3
_MIN_BAD_SHARE: Final = 0.05
"""With fewer lines that are not UTF-8 the file is UTF-8 with broken lines, which are rejected one by one."""
_BOMS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_MIN_NUL_SHARE: Final = 0.2
"""Share of NUL bytes from which on a text without byte order mark is UTF-16."""


@dataclass(frozen=True)
class InputFile:
    """A file of a shop.

    Attributes:
        path: the file, or the zip.
        member: path inside the zip.
        encoding: encoding of text files, `auto` = detect it.
    """

    path: Path
    member: str | None = None
    encoding: str = AUTO

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """File name without the suffix of a compression."""
        name = PurePosixPath(self.member).name if self.member else self.path.name
        return name[: -len(Path(name).suffix)] if self.compression else name

    @property
    def suffix(self) -> str:
        """Suffix of the format, in lower case."""
        return Path(self.name).suffix.lower()

    @property
    def stem(self) -> str:
        """File name without any suffix."""
        return Path(self.name).stem

    @property
    def compression(self) -> str | None:
        """Suffix of the compression, or None."""
        suffix = (PurePosixPath(self.member) if self.member else self.path).suffix.lower()
        return suffix if suffix in COMPRESSED else None

    @contextmanager
    def open_binary(self) -> Iterator[IO[bytes]]:
        """Open the decompressed file.

        Raises:
            UsageError: the file is missing, damaged or encrypted.
        """
        try:
            with self._open_raw() as raw, _decompress(raw, self.compression) as stream:
                yield stream
        except UsageError:
            raise
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
            raise UsageError(f"{self} cannot be read ({str(error).splitlines()[0]}); export it again") from error

    @contextmanager
    def _open_raw(self) -> Iterator[IO[bytes]]:
        if self.member is None:
            with self.path.open("rb") as stream:
                yield stream
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
            yield stream

    @contextmanager
    def open_text(self) -> Iterator[TextIO]:
        """Open as text; bytes that are not valid become lone surrogates, so that only their line is rejected."""
        encoding, _ = self.detect_encoding()
        with self.open_binary() as stream:
            yield io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")

    def detect_encoding(self) -> tuple[str, bool]:
        """Return the encoding, and whether it was guessed from the bytes.

        A byte order mark decides, then the setting; without both the file is UTF-8 or UTF-16 if its first mebibyte is,
        else the most likely encoding.
        """
        with self.open_binary() as stream:
            sample = stream.read(_SAMPLE_BYTES)
        for mark, encoding in _BOMS:
            if sample.startswith(mark):
                return encoding, False
        if self.encoding != AUTO:
            return self.encoding, False
        if sample and sample.count(0) > _MIN_NUL_SHARE * len(sample):
            return ("utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"), True
        lines = sample.split(b"\n")
        n_bad = sum(not _is_utf8(line) for line in (lines[:-1] or lines))
        if n_bad < _MIN_BAD_LINES or n_bad < _MIN_BAD_SHARE * len(lines):
            return "utf-8", False
        return _guess_encoding(sample), True


@contextmanager
def _decompress(raw: IO[bytes], compression: str | None) -> Iterator[IO[bytes]]:
    if compression is None:
        yield raw
    elif compression == ".gz":
        with gzip.GzipFile(fileobj=raw) as stream:
            yield stream  # type: ignore[misc]
    elif compression == ".bz2":
        with bz2.BZ2File(raw) as stream:
            yield stream
    elif compression == ".xz":
        with lzma.LZMAFile(raw) as stream:
            yield stream
    else:
        import pyarrow as pa

        reader: Any = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        with io.BufferedReader(_Readable(reader)) as stream:
            yield stream


class _Readable(io.RawIOBase):
    """A stream of pyarrow as a raw stream of Python."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer and return the number of bytes."""
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guess_encoding(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    lines = b"\n".join([line for line in sample.split(b"\n")[:-1] if not line.isascii()][:500])
    best = from_bytes(lines or sample).best()
    encoding = best.encoding if best else "cp1252"
    try:
        sample.decode("cp1252")
        is_western = sum(byte >= 0x80 for byte in lines) < 0.25 * max(1, len(lines))
    except UnicodeDecodeError:
        is_western = False
    single_byte = not encoding.startswith(
        ("gb", "big5", "shift", "cp932", "cp949", "euc", "utf", "johab", "hz", "iso2022")
    )
    return "cp1252" if is_western and single_byte and not _is_other_script(sample, encoding) else encoding


def _is_other_script(sample: bytes, encoding: str) -> bool:
    """Return whether the decoded letters are mostly Greek, Cyrillic, Hebrew, Arabic or of another script."""
    letters = [
        character for character in sample.decode(encoding, "ignore") if character.isalpha() and character > "\x7f"
    ]
    return sum(character > "\u0250" for character in letters) > 0.5 * max(1, len(letters))
