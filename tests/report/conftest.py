"""A browser for the tests of the page."""

from tests.browser import browser  # noqa: F401 - a fixture for the tests here
