"""What all tests share: one thread a library, settled randomness, and the size of the fault tests.

In: RECSYS_FAULTS=large from `make faults`. Out: fixtures `faults_large` and `shared_data`.
"""

from __future__ import annotations

import os
from pathlib import Path

# Before numpy, torch or faiss are loaded: tests are small, and threads that wait for each other make them slow.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "2" if _name.startswith("POLARS") else "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Settings of whoever runs the tests must not reach them: every RECSYS_* variable is a setting of the program.
FAULTS_LARGE = os.environ.get("RECSYS_FAULTS") == "large"
for _name in [name for name in os.environ if name.startswith("RECSYS_")]:
    del os.environ[_name]

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

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
