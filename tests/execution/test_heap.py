from __future__ import annotations

import resource
import sys

import numpy as np
import pytest

from recsys.execution import heap

PIECE, TIMES = 48 << 20, 6


def faults() -> int:
    """Pages that had to be handed out while large pieces are taken and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        # a plain list of pieces of less than what numpy asks large pages for
        pieces = [np.ones(1 << 18) for _ in range(PIECE >> 21)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(heap._mallopt() is None, reason="this C library cannot be asked to keep memory")
def test_freed_memory_is_used_again_inside_and_given_back_at_the_end() -> None:
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as held:
            return int(held.read().split()[1]) * 4096

    before = resident()
    with heap.kept():
        faults()  # the first time they have to come
        assert faults() < PIECE // 4096
        assert resident() - before > PIECE // 2
    assert resident() - before < PIECE // 2


def test_what_fails_inside_is_told_and_other_systems_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError), heap.kept():
        raise KeyError
    monkeypatch.setattr(sys, "platform", "darwin")
    assert heap._mallopt() is None
    with heap.kept():
        pass
