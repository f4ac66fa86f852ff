"""What all tests share: one thread a library, settled randomness, and the size of the fault tests.

In: RECSYS_FAULTS=large from `make faults`. Out: fixtures `faults_large`, `shared_data`, `demo_shop`, `small_model`,
and the databases of tests/pg.py and tests/mariadb.py.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Before numpy, torch or faiss are loaded: tests are small, and threads that wait for each other make them slow.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "2" if _name.startswith("POLARS") else "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process that a test starts compiles the package again

# Settings of whoever runs the tests must not reach them: every RECSYS_* variable is a setting of the program.
FAULTS_LARGE = os.environ.get("RECSYS_FAULTS") == "large"
for _name in [name for name in os.environ if name.startswith("RECSYS_")]:
    del os.environ[_name]

# Scratch in memory where there is enough of it: most tests wait for the disk's fsync and prove nothing by it. The tests
# of a full disk mount a disk of their own.
MEMORY, NEEDED_BYTES = Path("/dev/shm"), 4 << 30
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= NEEDED_BYTES:
    os.environ["TMPDIR"] = str(MEMORY)

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.mariadb import mariadb_server, mariadb_url  # noqa: E402, F401 - fixtures for every test
from tests.pg import database_url, postgres_server, postgres_url  # noqa: E402, F401 - fixtures for every test

settings.register_profile(
    "small",
    max_examples=50,
    deadline=None,  # no test judges time
    derandomize=True,  # the same examples on every machine
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("large", settings.get_profile("small"), max_examples=5000, derandomize=False)
settings.load_profile("large" if FAULTS_LARGE else "small")


@pytest.fixture(scope="session")
def faults_large() -> bool:
    """Whether the fault tests run with their large figures (`make faults`)."""
    return FAULTS_LARGE


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing")
    return folder


SMALL_MODEL = {
    "RECSYS_ENCODER__DIM": "32",
    "RECSYS_ENCODER__WIDTH": "32",
    "RECSYS_ENCODER__VOCABULARY": "400",
    "RECSYS_TRAINING__EPOCHS": "2",
    "RECSYS_TRAINING__USER_EPOCHS": "2",
    "RECSYS_TRAINING__MIN_STEPS": "8",
}
"""Settings, as environment variables, under which the whole line runs in seconds."""


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings `demo_shop` was made with, set for this test and for the processes it starts."""
    for name, value in SMALL_MODEL.items():
        monkeypatch.setenv(name, value)
    return SMALL_MODEL


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled, once for all worker processes; tests copy it before they change it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = root / f"{name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            make(draft)
            draft.rename(folder)
    return folder


@pytest.fixture(scope="session")
def demo_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder on which `recsys demo` has run with 60 products and 60 users; copy it before changing it."""

    def make(folder: Path) -> None:
        from recsys.cli.app import main

        with pytest.MonkeyPatch.context() as patch, untouched_log():
            for name, value in SMALL_MODEL.items():
                patch.setenv(name, value)
            code = main(["demo", str(folder), "--products", "60", "--users", "60", "--quiet"])
        assert code == 0, f"recsys demo ended with exit code {code}; what it said stands above"

    return make_once(tmp_path_factory, "demo-shop", make)


@contextmanager
def untouched_log() -> Iterator[None]:
    """Run commands of the program in this process and leave the package's logger as it was."""
    logger = logging.getLogger("recsys")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
