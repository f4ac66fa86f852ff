"""Again and again: a killed run goes on and ends with the same rows; the same data, settings and seed give the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.projects import USERS, Run, new_project, rows, run_recsys

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]

STOPPED = """
import os, signal, sys
from recsys.store.run_writer import RunWriter
written, plain = [], RunWriter.write_shard
def write(self, shard_id, frame, **more):
    done = plain(self, shard_id, frame, **more)
    written.append(shard_id)
    if len(written) == 3:
        os.kill(os.getpid(), signal.Signals[{signal!r}])
    return done
RunWriter.write_shard = write
from recsys.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def in_a_process(*arguments: object, program: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", program] if program else ["-m", "recsys"]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGTERM", 143), ("SIGINT", 130)])
def test_a_stopped_recommend_goes_on_and_ends_with_the_same_rows(
    copied: Path, trained: Path, recsys: Run, name: str, code: int
) -> None:
    before = rows(copied)
    # Another length, so that the run is a new one; the unstopped twin is made on the side.
    stopped = in_a_process("recommend", "-k", "5", "-C", copied, program=STOPPED.format(signal=name))
    assert stopped.returncode == code, stopped.stderr
    assert rows(copied) == before
    ((run_id,),) = rows(copied, "SELECT run_id FROM runs WHERE state = 'building'")
    # What was handed to the writer when a signal came is written too.
    ((count,),) = rows(copied, f"SELECT COUNT(*) FROM run_shards WHERE run_id = '{run_id}'")
    assert count == 3 if name == "SIGKILL" else 3 <= count <= 5
    resumed = recsys("recommend", "-k", "5", "-C", copied, "--json")
    assert resumed.code == 0, resumed.err
    assert (resumed.document["run_id"], resumed.document["counts"]["shards_resumed"]) == (run_id, count)
    assert rows(copied, "SELECT COUNT(*) FROM runs WHERE state = 'building'") == [(0,)]
    resumed_rows = rows(copied)
    assert recsys("recommend", "-k", "5", "-C", copied, "--no-resume").code == 0
    assert rows(copied) == resumed_rows
    assert len(resumed_rows) == 5 * (USERS + 1)


def test_a_stopped_training_goes_on_and_ends_with_the_same_model(copied: Path, recsys: Run) -> None:
    program = """
import os, signal, sys
from recsys.encoder.training.metric_logger import MetricLogger
plain = MetricLogger.log_step
def step(self, done, numbers, **more):
    if done == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return plain(self, done, numbers, **more)
MetricLogger.log_step = step
from recsys.cli.app import main
sys.exit(main(sys.argv[1:]))
"""
    before = (copied / "artifacts/models/encoder/CURRENT").read_text()
    stopped = in_a_process("train", "encoder", "-C", copied, program=program)
    assert stopped.returncode == 143, stopped.stderr
    assert "train --resume continues from there" in stopped.stderr
    assert (copied / "artifacts/models/encoder/CURRENT").read_text() == before
    (copied / "artifacts/models/encoder/CURRENT").unlink()
    assert recsys("train", "encoder", "--resume", "-C", copied).code == 0
    assert (copied / "artifacts/models/encoder/CURRENT").read_text() == before
    nothing_left = recsys("train", "encoder", "--resume", "-C", copied)
    assert nothing_left.code == 2 and "train without --resume" in nothing_left.err


def test_the_same_data_settings_and_seed_give_the_same_rows(trained: Path, drawn: Path, tmp_path: Path) -> None:
    project = new_project(tmp_path / "twin")
    assert run_recsys("ingest", drawn, "-C", project, "-q").code == 0
    assert run_recsys("run", "-C", project, "-q").code == 0
    assert rows(project) == rows(trained)
    for query in (
        "SELECT product_id, rank, neighbour_id, score FROM similar_products ORDER BY 1, 2",
        "SELECT product_id, cluster_id FROM product_clusters ORDER BY 1",
        "SELECT product_id, model_version, content_hash, vector FROM product_embeddings ORDER BY 1",
    ):
        assert rows(project, query) == rows(trained, query)


def test_a_second_process_on_the_same_store_is_told_to_come_back(copied: Path, recsys: Run) -> None:
    from recsys.store.store import Store

    with Store.open(f"sqlite:///{copied}/recsys.db"):
        outcome = in_a_process("recommend", "-C", copied, "--json")
        reading = recsys("runs", "list", "-C", copied)
    assert outcome.returncode == 75
    assert "working on" in outcome.stderr
    assert reading.code == 0


def test_the_program_runs_as_a_module_and_help_needs_no_project() -> None:
    shown = in_a_process("--help")
    assert shown.returncode == 0 and "recommend" in shown.stdout
    version = in_a_process("--version")
    assert version.stdout.strip()
    wrong = in_a_process("recomend")
    assert wrong.returncode == 2 and "recommend" in wrong.stderr
