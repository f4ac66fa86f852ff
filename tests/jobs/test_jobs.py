"""The jobs hand their options to the program and end with its exit code; a chain stops at the first failure."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from recsys.jobs import generate_recommendations, nightly, rebuild_embeddings

JOBS = {nightly: ["run"], generate_recommendations: ["recommend"], rebuild_embeddings: ["embed", "cluster", "index"]}


def _recorded(job: ModuleType, monkeypatch: pytest.MonkeyPatch, codes: list[int]) -> list[list[str]]:
    calls: list[list[str]] = []

    def program(arguments: list[str]) -> int:
        calls.append(arguments)
        return codes[len(calls) - 1]

    monkeypatch.setattr(job, "recsys", program)
    return calls


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
def test_options_go_to_every_step(job: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _recorded(job, monkeypatch, [0, 0, 0])
    assert job.main(["-C", "shop"]) == 0
    assert calls == [[step, "-C", "shop"] for step in JOBS[job]]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
@pytest.mark.parametrize("code", [4, 75, 143])
def test_the_first_failure_is_the_exit_code(job: ModuleType, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _recorded(job, monkeypatch, [code])
    assert job.main([]) == code
    assert len(calls) == 1


def test_options_of_the_command_line_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _recorded(nightly, monkeypatch, [0])
    monkeypatch.setattr(sys, "argv", ["nightly", "--dry-run"])
    assert nightly.main() == 0
    assert calls == [["run", "--dry-run"]]


def test_a_job_started_as_a_module_exits_with_the_code_of_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recsys.jobs.nightly", "--no-such-option"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "no-such-option" in done.stderr
