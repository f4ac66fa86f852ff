"""What is written for Airflow and Kubernetes: files that can be read, commands that exist, numbers that fit."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recsys.jobs import airflow_dag

ROOT = Path(__file__).resolve().parents[2]
yaml = pytest.importorskip("yaml", reason="PyYAML is missing")


def options(words: list[str]) -> set[str]:
    import contextlib
    import io
    import re

    from recsys.cli.app import main
    from tests.conftest import untouched_log

    out = io.StringIO()
    with contextlib.redirect_stdout(out), untouched_log(), contextlib.suppress(SystemExit):
        assert main([words[0], "--help"]) == 0
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", out.getvalue()))


def check(words: list[str]) -> None:
    used = {word for word in words if word.startswith("-")}
    assert used and used <= options(words), words


def test_every_command_of_the_dag_exists() -> None:
    steps, lists = airflow_dag.commands("/srv/my shop", 3)
    assert list(lists) == ["recommend_0", "recommend_1", "recommend_2"]
    for command in [*steps.values(), *lists.values()]:
        program, *words = shlex.split(command)
        assert program == "recsys" and "/srv/my shop" in words
        check(words)


def test_the_dag_runs_the_steps_in_order_and_the_parts_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Airflow that notes what follows what."""
    follows: list[tuple[str, str]] = []

    class Operator:
        def __init__(self, *, task_id: str, bash_command: str) -> None:
            self.task_id = task_id
            assert bash_command.startswith("recsys ")

        def set_downstream(self, other: Operator) -> None:
            follows.append((self.task_id, other.task_id))

    class Dag:
        def __init__(self, name: str, **_: Any) -> None:
            self.name = name

        def __enter__(self) -> Dag:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    class Variable:
        @staticmethod
        def get(name: str, *, default_var: object) -> object:
            return {"recsys_parts": "2"}.get(name, default_var)

    parts = {
        "airflow": {"DAG": Dag, "__path__": []}, "airflow.models": {"Variable": Variable},
        "airflow.operators": {"__path__": []}, "airflow.operators.bash": {"BashOperator": Operator},
    }  # fmt: skip
    for name, held in parts.items():
        module = ModuleType(name)
        module.__dict__.update(held)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(airflow_dag, "find_spec", lambda name: None)
    assert airflow_dag.dag().name == "recsys_nightly"
    chain = ["ingest", "embed", "cluster", "index"]
    assert follows == [*zip(chain, chain[1:], strict=False), ("index", "recommend_0"), ("index", "recommend_1")]


def test_without_airflow_the_module_is_imported_all_the_same() -> None:
    if importlib.util.find_spec("airflow") is None:
        assert not hasattr(airflow_dag, "recsys_nightly")


@pytest.mark.parametrize("name", ["vectors", "recommend"])
def test_the_jobs_of_kubernetes(name: str) -> None:
    job = yaml.safe_load((ROOT / "jobs/k8s" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        program, *words = container["command"]
        if program == "recsys":
            check(words)
        else:
            assert importlib.util.find_spec(words[1]) is not None
    refusing = [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert not {75, 143} & set(refusing[0]["onExitCodes"]["values"])
    if name == "recommend":
        command = pod["containers"][0]["command"]
        assert command[command.index("--num-shards") + 1] == str(job["spec"]["completions"])
        assert job["spec"]["completionMode"] == "Indexed"
        assert command[command.index("--shard-index") + 1] == "$(JOB_COMPLETION_INDEX)"
        assert pod["terminationGracePeriodSeconds"] > 20
