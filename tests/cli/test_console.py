"""What the user sees: streams kept apart, markup and control characters harmless, no colour on request, valid JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from recsys.cli import console as output
from recsys.pipeline.result import CommandResult, Table, to_json_value

EVIL = "[bold red]x[/] [link=http://e]y[/link] \x1b[31mred\x1b[0m \u202egnp\x07 <script>"


def report() -> CommandResult:
    table = Table(
        "lists of [b]today[/b]", ("product_id", "title", "score"), [("p[1]", EVIL, 0.123456), ("p2", None, 7.0)]
    )
    return CommandResult(
        "similar",
        run_id="r1",
        counts={"rows": 2, "share": 0.5},
        warnings=[f"odd {EVIL}"],
        tables=[table],
        notes=["next"],
    )


def test_data_goes_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_result(report(), quiet=False)
    out, err = capsys.readouterr()
    assert "p[1]" in out and "0.1235" in out and "rows 2" not in out and "warning" not in out
    assert "warning: odd" in err and "rows 2" in err and "next" in err and "0.1235" not in err


def test_markup_stays_text_and_control_characters_go(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_result(report(), quiet=False)
    output.print_error(EVIL)
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "[bold red]x[/]" in text
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "lists of [b]today[/b]" in out


def test_quiet_leaves_only_data(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_result(report(), quiet=True)
    out, err = capsys.readouterr()
    assert "p[1]" in out
    assert err == ""


def test_no_color_is_respected_and_colour_is_used_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None: ...

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    texts = []
    for color in (None, "1"):
        if color:
            monkeypatch.setenv("NO_COLOR", color)
        screen = Terminal()
        monkeypatch.setattr("sys.stderr", screen)
        output.print_error("no")
        texts.append(screen.text)
    assert "\x1b[1;31m" in texts[0]
    assert "31m" not in texts[1]


def test_the_json_document_has_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json(report().to_json())
    document = json.loads(capsys.readouterr().out)
    promised = ["schema_version", "command", "status", "run_id", "counts", "warnings", "artifacts"]
    assert list(document)[: len(promised)] == promised
    assert document["rows"][1] == {"product_id": "p2", "title": None, "score": 7.0}


def test_a_failure_is_a_document_too() -> None:
    document = output.create_error_document("train", "no", exit_code=3, warnings=["w"])
    assert (document["status"], document["error"], document["exit_code"]) == ("error", "no", 3)
    assert document["warnings"] == ["w"]


def test_plain_values_are_json() -> None:
    held = {
        "a": np.int64(3),
        "b": np.float32(0.5),
        "c": math.nan,
        "d": (1, np.inf),
        "e": Path("x"),
        5: None,
        "f": np.bool_(True),
    }
    made = to_json_value(held)
    assert made == {"a": 3, "b": 0.5, "c": None, "d": [1, None], "e": "x", "5": None, "f": True}
    json.dumps(made, allow_nan=False)


def test_lines_are_rare_and_stages_end_with_their_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("recsys.cli.console.time.monotonic", lambda: now[0])
    lines = output.ProgressLines()
    lines.begin("embed")
    for second in range(65):
        now[0] = 100.0 + second
        lines.update("embed", second, 65, {"loss": 0.25})
    lines.end("embed", 65.0)
    assert capsys.readouterr().err.splitlines() == ["embed: 30/65 loss 0.25", "embed: 60/65 loss 0.25", "embed: 65.0 s"]


def test_bars_leave_one_line_a_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bars = output.ProgressBars()
    bars.begin("embed")
    bars.begin("inner")
    bars.update("inner", 1, 2, {"loss": 0.5})
    bars.end("inner", 0.5)
    bars.end("embed", 1.5)
    assert [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()][-2:] == [
        "inner: 0.5 s",
        "embed: 1.5 s",
    ]
