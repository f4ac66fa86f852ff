"""The page of messages names messages that the program really has.

In: docs/howto/troubleshooting.md. Out: every fixed part of a message stands in the source.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "troubleshooting.md"


def _literals() -> str:
    """All texts of the source, adjacent ones joined, with a mark for each placeholder."""
    texts = []
    for path in (ROOT / "recsys").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"\{[^{}]*\}", "\0", node.value))
    return "\n".join(texts)


def test_every_message_of_the_page_is_one_of_the_program() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 50
    source = _literals()
    for row in rows:
        for message in re.findall(r"`([^`]+)`", row):
            # placeholders: numbers, quoted words, names of files; what is between them is fixed
            parts = re.split(r"\.\.\.|'[^']*'|\"[^\"]*\"|[\d.,]+%?|\b[A-Z]{4,}\b|=|\(|\)", message)
            fixed = [part.strip(" ;,:") for part in parts if len(part.strip(" ;,:").split()) >= 2]
            assert fixed or "'" in message, message
            for part in fixed:
                words = part.split()
                pairs = [" ".join(words[start : start + 2]) for start in range(len(words) - 1)]
                known = sum(pair in source for pair in pairs)
                assert known * 3 >= len(pairs) or len(pairs) < 3, f"{message!r}: {part!r} is unknown"
