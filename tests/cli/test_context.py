"""One call of a command: every kind of error to its exit code and one line, warnings collected, options shared."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys import errors
from recsys.cli.app import main
from recsys.cli.context import CommandContext, run_command
from recsys.pipeline.result import CommandResult


def call(**changes: object) -> CommandContext:
    return CommandContext(**{"command": "try", "project_dir": Path(), "database": None, "json": True, "quiet": False,
                   "verbose": 0, "debug": False, **changes})  # type: ignore[arg-type]  # fmt: skip


def raising(error: BaseException) -> Callable[[], CommandResult]:
    def work() -> CommandResult:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RecsysError("no"), 1),
        (errors.UsageError("no"), 2),
        (errors.ConfigError("no"), 2),
        (errors.NotFoundError("no"), 2),
        (errors.DataContractError("no"), 3),
        (errors.PublishGuardError("no"), 4),
        (errors.NothingNewError("no"), 5),
        (errors.LeaseHeldError("no"), 75),
        (errors.DatabaseUnavailableError("no"), 75),
        (errors.InterruptedRunError("no", signal_number=15), 143),
        (errors.InterruptedRunError("no", signal_number=2), 130),
        (OSError(errno.ENOSPC, "no space", "x.db"), 75),
        (ZeroDivisionError("no"), 70),
    ],
)
def test_every_error_has_its_code_one_line_and_one_document(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(call(), raising(error)) == code
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["status"], document["exit_code"], document["command"]) == ("error", code, "try")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert "Traceback" not in err


def test_a_bug_is_called_one_and_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(call(debug=True, json=False), raising(ZeroDivisionError("half"))) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err and "error: bug: ZeroDivisionError: half; repeat with --debug" in err


def test_a_password_in_an_error_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(call(), raising(errors.RecsysError("postgresql://me:hunter2@host/db is away, password=hunter2")))
    assert "hunter2" not in "".join(capsys.readouterr())


def test_warnings_of_the_rooms_stand_in_the_document_once(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> CommandResult:
        for _ in range(2):
            logging.getLogger("recsys.some.room").warning("the %s is old", "index")
        return CommandResult("try", warnings=["mine"])

    assert run_command(call(), work) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == ["mine", "the index is old"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_work_with_its_code(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    def work() -> CommandResult:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did not arrive")

    assert run_command(call(), work) == code
    assert number.name in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_shared_options_stand_after_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:")[1]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]
    expected = "demo init ingest check train embed cluster index run recommend publish rollback similar audience"
    expected += " complete evaluate report forget doctor"
    assert set(names) == {*expected.split(), "runs", "config"}
    for path in [
        *([name] for name in expected.split()),
        ["runs", "list"],
        ["runs", "show"],
        ["runs", "prune"],
        ["config", "show"],
    ]:
        assert main([*path, "--help"]) == 0
        text = capsys.readouterr().out
        for option in ("-C", "--project-dir", "--database", "--json", "-q", "-v", "--debug"):
            assert option in text, (path, option)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--epoch", "1"], "No such option: --epoch"),
        (["train", "ranke"], "'ranke' is not one of"),
        (["recommend", "-k", "0"], "greater than or equal to 1"),
        (["runs", "lst"], "No such command 'lst'"),
    ],
)
def test_a_wrong_call_is_one_line_one_document_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["exit_code"] == 2 and said in document["error"]
    assert said in err and err.count("\n") == 1


def test_outside_a_project_the_way_in_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["check"], ["runs", "list"], ["recommend"], ["publish"]):
        assert main([*command, "-C", str(tmp_path)]) == 2
        assert "recsys init" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_config_show_masks_secrets_and_names_origins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recsys.toml").write_text("[recommend]\nk = 5\n[source]\nurl = 'mysql://a:hunter2@h/d'\n")
    monkeypatch.setenv("RECSYS_TRAINING__SEED", "7")
    arguments = ["config", "show", "--json", "-C", str(tmp_path), "--database", "postgresql://me:hunter2@h/d"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    rows = {row["setting"]: row for row in json.loads(out)["rows"]}
    assert (rows["recommend.k"]["value"], rows["recommend.k"]["origin"]) == (5, "recsys.toml")
    assert (rows["training.seed"]["value"], rows["training.seed"]["origin"]) == (7, "environment")
    assert rows["database.url"] == {"setting": "database.url", "value": "postgresql://me:***@h/d", "origin": "flag"}
    assert rows["recommend.placement"]["origin"] == "default"
    assert main([*arguments, "--changed"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 4
