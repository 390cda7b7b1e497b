"""Copies of the kernel functions, compiled by numba: same results as the originals, more than ten times faster.

The first call compiles the functions, which takes about 12 s of CPU time; later calls load them from numba's cache.
The cache tracks only the file of the called function, so the copies are named after a digest of all kernel modules.
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
from numba import njit, typeof

from ebbtide.core.autoscaler.kernel import FUNCTIONS, HOT
from ebbtide.simulator.engine import pods, state
from ebbtide.simulator.engine.scaling import advance

_LOCK: Final = threading.Lock()


def _tell(w: Any, event: int, number: int, other: int) -> None:
    """Replace ``pods.notify_observer``: a compiled simulation has no observer."""


def _grow(w: Any) -> bool:  # noqa: ARG001 - same signature as the original
    """Replace ``pods.add_rows``: arrays do not grow, and the simulation is restarted with larger ones."""
    return False


def _reset(w: Any, pod: int) -> None:
    """Replace ``pods.reset_pod``: a record is copied."""
    w.pods[pod] = w.empty_pod


def _draw(seed: int, stream: int, number: int, below: int) -> int:
    """Replace ``state.draw``."""
    x = (
        np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        + np.uint64(stream) * np.uint64(0xD1B54A32D192ED03)
        + np.uint64(number) * np.uint64(0x8CB92BA72F3D8DD7)
    )
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.int64(((x >> np.uint64(32)) * np.uint64(below)) >> np.uint64(32))  # type: ignore[return-value] # compatible with int


class TypedFunctions:
    """The compiled copies by name, for simulated arguments of the same types in each call, which are found in the first one.

    To find the types of the arguments takes longer than an event.
    """

    def __init__(self, functions: SimpleNamespace) -> None:
        """Start with functions whose types are not known."""
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        """Return a function that finds the types of its arguments, and replaces itself."""
        function = getattr(self._functions, name)

        def call(*arguments: Any) -> Any:
            output = function(*arguments)
            setattr(self, name, function.get_overload(tuple(map(typeof, arguments))))
            return output

        return call


def compile_functions() -> TypedFunctions:
    """Return the compiled copies by name, for the arguments of one simulation."""
    with _LOCK:
        return TypedFunctions(_compile_functions())


@cache
def _compile_functions() -> SimpleNamespace:
    assert advance in FUNCTIONS
    replacements = {pods.notify_observer: _tell, pods.add_rows: _grow, pods.reset_pod: _reset, state.draw: _draw}
    modules = {name: sys.modules[name] for name in sorted({function_.__module__ for function_ in FUNCTIONS})}
    digest = 0
    for file in (__file__, *(module.__file__ for module in modules.values())):
        assert file is not None
        digest = crc32(Path(file).read_bytes(), digest)
    # Namespace of each module, in which copies call copies.
    namespaces = {name: dict(vars(module)) for name, module in modules.items()}
    copies = {}
    for function in FUNCTIONS:
        name = function.__name__
        source = replacements.get(function)
        namespace = namespaces[function.__module__] if source is None else globals()
        copy = FunctionType((source or function).__code__, namespace, name)
        copy.__qualname__ = f"{name}_{digest:08x}"
        inlined = function in HOT
        # Kernel functions allocate no arrays, so reference counting, which took most of the time, is off.
        compile_copy = njit(cache=True, nogil=True, error_model="numpy", forceinline=inlined, _nrt=False)  # type: ignore[call-overload] # no stub has _nrt
        copies[id(function)] = compile_copy(copy)
    for namespace in namespaces.values():
        namespace.update({name: copies[id(value)] for name, value in namespace.items() if id(value) in copies})
    return SimpleNamespace(**{function.__name__: copies[id(function)] for function in FUNCTIONS})
