"""Copies of the kernel functions that numba compiles: the same results as the plain ones, more than ten times faster.

The first call compiles, which takes some 25 s of processor time once; then it is read from numba's cache. That knows only
of changes in the file of the function that is called, so the copies are named by a digest of all kernel modules.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, Final
from zlib import crc32

import numpy as np
from numba import njit

from ebbtide.autoscaler.kernel import FUNCTIONS, HOT
from ebbtide.simulate import pods, state
from ebbtide.simulate.scaling import advance

_LOCK: Final = threading.Lock()


def _tell(w: Any, what: int, number: int, other: int) -> None:
    """Stand in for ``pods.tell``: no compiled simulation has an observer."""


def _grow(w: Any) -> bool:  # noqa: ARG001 - its signature is the plain one's
    """Stand in for ``pods.grow``: arrays don't grow, and the simulation starts again with larger ones."""
    return False


def _draw(seed: int, stream: int, number: int, below: int) -> int:
    """Stand in for ``state.draw``."""
    x = (
        np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        + np.uint64(stream) * np.uint64(0xD1B54A32D192ED03)
        + np.uint64(number) * np.uint64(0x8CB92BA72F3D8DD7)
    )
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.int64(((x >> np.uint64(32)) * np.uint64(below)) >> np.uint64(32))  # type: ignore[return-value] # as good as an int


def functions() -> SimpleNamespace:
    """Return the compiled copies by name."""
    with _LOCK:
        return _functions()


@cache
def _functions() -> SimpleNamespace:
    assert advance in FUNCTIONS
    instead = {pods.tell: _tell, pods.grow: _grow, state.draw: _draw}
    modules = {name: sys.modules[name] for name in sorted({each.__module__ for each in FUNCTIONS})}
    digest = 0
    for file in (__file__, *(module.__file__ for module in modules.values())):
        assert file is not None
        digest = crc32(Path(file).read_bytes(), digest)
    # Each module's names, in which copies call copies.
    spaces = {name: dict(vars(module)) for name, module in modules.items()}
    copies = {}
    for function in FUNCTIONS:
        name = function.__name__
        source = instead.get(function)
        space = spaces[function.__module__] if source is None else globals()
        copy = FunctionType((source or function).__code__, space, name)
        copy.__qualname__ = f"{name}_{digest:08x}"
        inlined = function in HOT
        # Kernel functions make no arrays, so none needs to be counted: counting took most of the time.
        made = njit(cache=True, nogil=True, error_model="numpy", forceinline=inlined, _nrt=False)  # type: ignore[call-overload] # no stub has _nrt
        copies[id(function)] = made(copy)
    for space in spaces.values():
        space.update({name: copies[id(value)] for name, value in space.items() if id(value) in copies})
    return SimpleNamespace(**{function.__name__: copies[id(function)] for function in FUNCTIONS})
