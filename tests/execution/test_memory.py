from __future__ import annotations

import json
import subprocess
import sys

import pytest

from recsys.execution import memory as heap

PIECES = 24
SCRIPT = f"""
import json, resource
import numpy as np
from recsys.execution import memory as heap

def faults():  # pages that had to be handed out while large pieces are taken and freed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(6):
        pieces = [np.ones(1 << 18) for _ in range({PIECES})]  # below what numpy asks large pages for
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm", encoding="ascii") as held:
        return int(held.read().split()[1])

before = resident()
with heap.keep_freed_memory():
    faults()  # the first time they have to come
    inside = [faults(), resident() - before]
print(json.dumps([*inside, resident() - before]))
"""


@pytest.mark.skipif(heap._find_mallopt() is None, reason="this C library cannot be asked to keep memory")
def test_freed_memory_is_used_again_inside_and_given_back_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    again, kept, left = json.loads(done.stdout)
    pages = PIECES * 512  # of 4,096 bytes
    assert again < pages / 4
    assert kept > pages / 2
    assert left < pages / 4


def test_what_fails_inside_is_told_and_other_systems_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError), heap.keep_freed_memory():
        raise KeyError
    monkeypatch.setattr(sys, "platform", "darwin")
    assert heap._find_mallopt() is None
    with heap.keep_freed_memory():
        pass
