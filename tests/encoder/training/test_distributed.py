import ast
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys.cli.app import main
from recsys.encoder import device as processor
from recsys.encoder.training import distributed
from recsys.errors import ConfigError
from recsys.execution import torchrun as crew
from tests.conftest import untouched_log
from tests.encoder import pair

ROOT = Path(__file__).resolve().parents[3]
Said = list[dict[str, Any]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes, started as torchrun starts them, have written."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(2):
        said = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
        said |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.encoder.pair", str(folder)],
                cwd=ROOT,
                env={**os.environ, **said},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        errors = [each.communicate(timeout=300)[1] for each in running]
    finally:
        for each in running:
            each.kill()
    assert [each.returncode for each in running] == [0, 0], errors
    return folder


@pytest.fixture(scope="module")
def said(two: Path) -> Said:
    return [json.loads((two / f"{rank}.json").read_text()) for rank in range(2)]


def close(found: dict[str, Tensor], part: str, wanted: dict[str, Tensor]) -> None:
    """Are the numbers of one part the same to what float32 holds of sums in another order."""
    names = {name.removeprefix(part) for name in found if name.startswith(part)}
    assert names == wanted.keys()
    for name, value in wanted.items():
        far = (found[part + name].float() - value.float()).abs().max()
        assert far <= (1e-5 if name.startswith("loss") else 5e-5) * max(1.0, float(value.abs().max())), name


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_have_the_loss_and_the_gradient_of_one(two: Path, rank: int) -> None:
    """With pictures augmented, modalities and words hidden, and batch normalisation over all pictures of the batch."""
    found = load_file(two / f"{rank}.safetensors")
    one = pair.step()
    assert {"loss.masked_text", "loss.image_text", "loss.co_purchase", "loss.masked_attributes"} <= one.keys()
    close(found, "whole.", one)


def test_two_processes_have_bit_for_bit_the_same(two: Path) -> None:
    a, b = (load_file(two / f"{rank}.safetensors") for rank in range(2))
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_chunks_are_cut_within_each_process(two: Path) -> None:
    """Chunks of two processes are together those of one with twice the size, for batch normalisation too."""
    close(load_file(two / "0.safetensors"), "chunk.", pair.step(chunk=10))


def test_a_signal_to_one_stops_both_and_both_go_on(two: Path, said: Said) -> None:
    for each in said:
        assert each["stopped"].startswith("training products: stopped by a signal after step 2 of 4")
        assert each["code"] == 143
    assert said[0]["metrics"].pop("version") == said[1]["metrics"].pop("version")
    assert said[1]["metrics"] == {}  # the first process alone tells how it went
    assert {"image_text", "effective_rank", "waiting"} <= said[0]["metrics"].keys()
    rows = [json.loads(line) for line in (two / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4]


def test_rows_are_gathered_with_their_gradients(said: Said) -> None:
    for rank, each in enumerate(said):
        assert each["told"] == 7
        assert each["gathered"] == [0, 1, 0, 1, 2]
        assert each["back"] == [[0, 2], [4, 6, 8]][rank]  # twice: the mean over both processes is taken afterwards
        assert "have read different data or settings" in each["refused"]


def test_one_process_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # another launcher's, not torchrun's
    monkeypatch.setenv("RANK", "3")
    assert (crew.world_size(), crew.rank(), crew.is_helper()) == (1, 0, False)
    with distributed.process_group("cpu"):
        assert (distributed.world_size(), distributed.rank()) == (1, 0)
        assert (distributed.broadcast(5), distributed.all_reduce_max(4)) == (5, 4)
        x = torch.ones(3)
        assert distributed.all_gather(x) is x
        model = nn.Linear(2, 1)
        model(torch.ones(2)).sum().backward()
        before = model.weight.grad.clone()
        distributed.all_reduce_gradients(model.parameters())
        distributed.broadcast_parameters(model, {})
        distributed.barrier()
        assert torch.equal(model.weight.grad, before)


def test_importing_the_module_does_not_load_the_compiler() -> None:
    """`torch._dynamo` takes seconds of processor time to import, in every process."""
    code = "import sys, recsys.encoder.training.distributed; print('torch._dynamo' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout.strip()) == (0, "False"), result.stderr


def test_importing_finetune_does_not_load_scikit_learn() -> None:
    """Only fitting the classification heads needs it; the module's own imports are checked, not what they import."""
    tree = ast.parse((ROOT / "recsys" / "encoder" / "training" / "finetune.py").read_text(encoding="utf-8"))
    modules = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not [name for name in modules if name.startswith("sklearn")]


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "3"), ("RANK", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert processor.select_device("auto") == torch.device("cuda", 1)
    assert processor.select_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="3 processes or more on a machine with 2 CUDA devices"):
        processor.select_device("cuda")


def test_a_helper_has_nothing_to_do_for_the_ranker_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with untouched_log():
        code = main(["train", "ranker", "-C", str(tmp_path), "--database", f"sqlite:///{tmp_path}/shop.db", "--json"])
    assert code == 0
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []  # no store was opened, no lease taken
