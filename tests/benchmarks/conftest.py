"""What the tests of the benchmark scripts share with the end-to-end tests.

In: nothing. Out: fixtures `drawn`, `trained`.
"""

from tests.e2e.conftest import drawn, trained  # noqa: F401 - fixtures
