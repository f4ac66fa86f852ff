"""A second Bench for one verb that writes, so that an opened shop holds the store's lease only while it does.

In: the Bench of an opened shop. Out: a Bench in a `with` block; what the shop had loaded is forgotten afterwards.
"""

from __future__ import annotations

from recsys.pipeline.project import Bench


class Writing:
    """A Bench that holds the store's lease for one verb."""

    def __init__(self, outer: Bench) -> None:
        self._outer = outer
        self._bench = Bench(outer.settings, outer.watch)

    def __enter__(self) -> Bench:
        return self._bench

    def __exit__(self, *_: object) -> None:
        self._bench.close()
        self._outer.refresh()
