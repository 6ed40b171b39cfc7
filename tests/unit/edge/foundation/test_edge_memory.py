"""Memory that is free again goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCK_BYTES = 100_000
BLOCKS = 400
SCENE = f"""
import ctypes, sys
from edge.foundation import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if sys.argv[1] == "settled":
    memory.give_back()
libc.free(libc.malloc({BLOCK_BYTES * 8}))  # teaches glibc to take such sizes from its heap
before = resident()
blocks = [libc.malloc({BLOCK_BYTES}) for _ in range({BLOCKS})]
for block in blocks:
    ctypes.memset(block, 1, {BLOCK_BYTES})
kept = [libc.malloc(10_000) for _ in range(100)]  # what lives on, above the blocks
for block in blocks:
    libc.free(block)
print(resident() - before)
"""


def kept(settled: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCENE, settled], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_what_a_busy_moment_took_goes_back_to_the_system() -> None:
    assert kept("settled") < BLOCKS * BLOCK_BYTES / 20 < kept("as it is")
