"""Every fail-point, killed, failing and without room: the old is read or the new, and the next run puts it right.

In: the names in the source. Out: each of them passed by some scenario, and its fault survived.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from _pytest.mark import ParameterSet

from recsys.config import loading as layers
from recsys.errors import ConfigError
from recsys.execution import failpoints
from tests.conftest import make_once
from tests.faults.invariants import check, no_drafts
from tests.faults.scenarios import SCENARIOS, Scenario, told, vectors_tidy
from tests.faults.stub import RECORD, Child, exit_code, taken
from tests.faults.tally import Tally

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(
    {
        name
        for path in (ROOT / "recsys").rglob("*.py")
        for name in re.findall(r'failpoint\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    }
)
CODES = {"raise": 70, "enospc": 75}
FEW = re.compile(r"store\.(flip|publish|shard|begin)\.")
"""What is tried on PostgreSQL too in the small column."""


def _disturbed(
    processes: ForkServerContext, scenario: Scenario, place: str, *, point: str, action: str, nth: int
) -> None:
    """Let one fault happen, look what is there, and let the next run put it right."""
    old = told(scenario.before[-1]) if scenario.before else None
    armed = f"{point}={action}@{nth}"
    if action == "kill":
        child = Child(processes, scenario.what, place, scenario.new, armed=armed)
        assert child.ended() == -signal.SIGKILL, child.said[-1:]
    else:
        assert exit_code(lambda: scenario.act(place, scenario.new), armed=armed) == CODES[action]
    if scenario.store:
        with taken(place):
            pass
    assert scenario.read(place) in (old, told(scenario.new)), "I9"
    if scenario.store and scenario.read(place):
        check(place)
    scenario.act(place, scenario.new)
    assert scenario.read(place) == told(scenario.new), "I6"
    if scenario.store:
        check(place, settled=True)
    else:
        no_drafts([Path(place)])
        if scenario is SCENARIOS["vectors"]:
            vectors_tidy(Path(place))


def _prepared(scenario: Scenario, place: str) -> str:
    write = SCENARIOS["night"].act if scenario.store else scenario.act
    for version in scenario.before:
        write(place, version)
    return place


def _place(scenario: Scenario, folder: Path) -> str:
    return f"sqlite:///{folder}/shop.db" if scenario.store else str(folder)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each scenario a folder with the older versions; made once for all worker processes, copied by each test."""

    def make(folder: Path) -> None:
        for name, scenario in SCENARIOS.items():
            (folder / name).mkdir(parents=True)
            _prepared(scenario, _place(scenario, folder / name))

    root = make_once(tmp_path_factory, "fault-templates", make)
    return {name: root / name for name in SCENARIOS}


@pytest.fixture(scope="session")
def passed(
    templates: dict[str, Path], processes: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Counter[str]]:
    """How often each scenario passes each fail-point; counted once for all worker processes."""

    def make(folder: Path) -> None:
        counts = {}
        for name, scenario in SCENARIOS.items():
            shutil.copytree(templates[name], folder / name)
            child = Child(processes, scenario.what, _place(scenario, folder / name), scenario.new, armed=RECORD)
            assert child.ended() == 0, child.said
            counts[name] = child.said[-1]
            assert isinstance(counts[name], Counter)
        (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")

    counts = json.loads((make_once(tmp_path_factory, "fault-counts", make) / "counts.json").read_text("utf-8"))
    return {name: Counter(points) for name, points in counts.items()}


def test_every_fail_point_is_passed(passed: dict[str, Counter[str]]) -> None:
    assert len(NAMES) > 30
    assert set().union(*passed.values()) == set(NAMES)


def _parts(names: Iterable[str], numbers: Mapping[str, int]) -> list[ParameterSet]:
    """Each scenario in as many parts as named, one otherwise: a part takes every so-many-th fail-point."""
    return [
        pytest.param(name, part, numbers.get(name, 1), id=f"{name}-{part + 1}")
        for name in names
        for part in range(numbers.get(name, 1))
    ]


@pytest.mark.parametrize(("name", "part", "parts"), _parts(SCENARIOS, {"night": 8, "rollback": 2}))
def test_every_fault_is_survived(
    name: str,
    part: int,
    parts: int,
    templates: dict[str, Path],
    passed: dict[str, Counter[str]],
    processes: ForkServerContext,
    tmp_path: Path,
    faults_large: bool,
    tally: Tally,
) -> None:
    scenario = SCENARIOS[name]
    for point, count in sorted(passed[name].items())[part::parts]:
        if name == "first night" and not point.startswith("db."):
            continue  # the other nights pass it too
        dice = random.Random(f"{name} {point}")
        for action in failpoints.ACTIONS:
            for nth in range(1, count + 1) if faults_large else [dice.randint(1, count)]:
                with tally(f"fail-points, {name}", what=f"{point}={action}@{nth}"):
                    folder = tmp_path / f"{point}-{action}-{nth}"
                    shutil.copytree(templates[name], folder)
                    _disturbed(processes, scenario, _place(scenario, folder), point=point, action=action, nth=nth)
                    shutil.rmtree(folder)


@pytest.mark.parametrize(("name", "part", "parts"), _parts(["night", "rollback"], {"night": 4}))
def test_every_fault_is_survived_on_postgresql(
    name: str,
    part: int,
    parts: int,
    passed: dict[str, Counter[str]],
    processes: ForkServerContext,
    postgres_server: str,
    faults_large: bool,
    tally: Tally,
) -> None:
    scenario = SCENARIOS[name]
    points = [point for point in sorted(passed[name]) if point.startswith("store.")]
    with _databases(postgres_server) as make:
        template = make()
        _prepared(scenario, postgres_server.format(name=template))
        for point in [point for point in points if faults_large or FEW.match(point)][part::parts]:
            count, dice = passed[name][point], random.Random(f"{name} {point}")
            for action in failpoints.ACTIONS if faults_large else ["kill"]:
                for nth in range(1, count + 1) if faults_large else [dice.randint(1, count)]:
                    with tally(f"fail-points, {name}, postgresql", what=f"{point}={action}@{nth}"):
                        place = postgres_server.format(name=make(template))
                        _disturbed(processes, scenario, place, point=point, action=action, nth=nth)


@contextmanager
def _databases(server: str) -> Iterator[Callable[..., str]]:
    """Make databases, copies of another one where one is named; all go at the end."""
    made: list[str] = []
    with psycopg.connect(server.format(name="postgres"), autocommit=True) as admin:

        def make(template: str = "template1") -> str:
            made.append(f"faults_{uuid4().hex}")
            admin.execute(f'CREATE DATABASE "{made[-1]}" TEMPLATE "{template}"')
            return made[-1]

        try:
            yield make
        finally:
            for name in made:
                admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def test_fail_points_are_empty_functions_unless_the_environment_arms_them() -> None:
    code = (
        "from recsys.execution import failpoints\nfrom recsys.store import run_writer, store\n"
        "assert run_writer.failpoint is store.failpoint is failpoints.failpoint\n"
        "print(failpoints.failpoint is failpoints._do_nothing)\nfailpoints.failpoint('a.b')\n"
        "failpoints.failpoint('a.b')\nprint('lived')"
    )

    def ran(plan: str | None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **({} if plan is None else {failpoints.ENV_VARIABLE: plan})}
        return subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)

    off = ran(None)
    assert (off.returncode, off.stdout.split(), off.stderr) == (0, ["True", "lived"], "")
    killed = ran("a.b=kill@2")
    assert killed.returncode == -signal.SIGKILL and "lived" not in killed.stdout
    assert "fail-points are armed (RECSYS_FAILPOINTS): a.b" in killed.stderr


def test_a_plan_that_cannot_be_read_is_refused() -> None:
    assert failpoints.parse_plan("") == {}
    assert failpoints.parse_plan(" a.b=kill, c=enospc@3,") == {"a.b": ("kill", 1), "c": ("enospc", 3)}
    for wrong in ("a", "a=", "a=die", "a=kill@0", "a=kill@x", "A=kill"):
        with pytest.raises(ConfigError, match=r"RECSYS_FAILPOINTS: .* cannot be read; write NAME=kill\|raise\|enospc"):
            failpoints.parse_plan(wrong)


def test_it_is_no_setting(tmp_path: Path) -> None:
    layers.read(tmp_path, env={failpoints.ENV_VARIABLE: "a=kill"})
    assert failpoints.ENV_VARIABLE in layers.IGNORED_VARIABLES
