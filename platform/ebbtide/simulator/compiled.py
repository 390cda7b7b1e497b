"""Copies of the kernel functions, compiled by numba: same results as the originals, more than ten times faster.

The first call compiles the functions, which takes about 12 s of CPU time; later calls load them from numba's cache.
The cache tracks only the file of the called function, so the copies are named after a digest of all kernel modules.
"""

from __future__ import annotations

import sys
import threading
from functools import cache, partial
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, Final
from zlib import crc32

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined] # no stub lists carray
from numba.core.cgutils import voidptr_t
from numba.extending import intrinsic

from ebbtide.core.autoscaler.kernel import FUNCTIONS, HOT
from ebbtide.core.autoscaler.reconciler import ReconcileRules
from ebbtide.simulator import pods, scaling, state
from ebbtide.simulator.scaling import advance
from ebbtide.simulator.state import EngineState, ScalerState

_LOCK: Final = threading.Lock()
#: Functions that a simulation of a shared pool calls for each change of its pods. A call with a state's arrays takes 15 us.
_BOUND: Final = (
    scaling.advance_pooled,
    scaling.replace_pod,
    pods.find_next_end,
    pods.find_starting,
    pods.schedule_pod,
    pods.wait_until,
)
_INT: Final = np.dtype(np.int64)
_FLOAT: Final = np.dtype(np.float64)
_REQUEST, _TOKEN, _NUMBERS, _SUMS, _POD, _TICK = (
    state.make_dtype(row)
    for row in (
        state.RequestRow,
        state.TokenRow,
        state.EngineNumbers,
        state.TimeIntegrals,
        state.PodRow,
        state.TickRow,
    )
)


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


def _generate_pointer(_context: Any, address: Any) -> Any:
    """Return the type and the code generator of ``_make_pointer``."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], voidptr_t)

    return types.voidptr(address), generate


#: Returns an address as a pointer.
_make_pointer: Any = intrinsic(_generate_pointer)


@njit(forceinline=True)
def _read_array(addresses: Any, index: int, dtype: Any) -> Any:
    return carray(_make_pointer(addresses[2 * index]), addresses[2 * index + 1], dtype)


@njit(inline="always")
def _read_world(a: Any) -> Any:
    return EngineState(
        _read_array(a, 0, _REQUEST),
        _read_array(a, 1, _TOKEN),
        _read_array(a, 2, _NUMBERS)[0],
        _read_array(a, 3, _SUMS)[0],
        _read_array(a, 4, _POD),
        _read_array(a, 5, _POD)[0],
        _read_array(a, 6, _INT),
        _read_array(a, 7, _INT),
        _read_array(a, 8, _INT),
        _read_array(a, 9, _INT),
        _read_array(a, 10, _INT),
        _read_array(a, 11, _INT),
        _read_array(a, 12, _FLOAT),
        _read_array(a, 13, _INT),
        None,
    )


@njit(inline="always")
def _read_scaler(a: Any) -> Any:
    r = _read_array(a, 21, _FLOAT)
    whole, flags = (int(r[0]), int(r[1]), int(r[2])), (r[3] != 0, r[4] != 0, r[5] != 0)
    return ScalerState(
        _read_array(a, 14, _FLOAT),
        _read_array(a, 15, _FLOAT),
        _read_array(a, 16, _INT),
        _read_array(a, 17, _INT),
        _read_array(a, 18, _FLOAT),
        _read_array(a, 19, _INT),
        _read_array(a, 20, _INT),
        ReconcileRules(whole[0], whole[1], whole[2], flags[0], flags[1], flags[2], r[6], r[7], r[8], r[9]),
        _read_array(a, 22, _TICK),
    )


#: The function of ``_BOUND`` that an entry calls: each copy of ``_enter`` has its own.
_function: Any = None


def _enter(addresses: Any, *arguments: Any) -> Any:
    """Call ``_function``, with a state that is read from the addresses of its arrays."""
    return _function(_read_world(addresses), *arguments)


def _enter_scaler(addresses: Any, *arguments: Any) -> Any:
    """Call ``_function`` as above, with the scaler's state."""
    return _function(_read_world(addresses), _read_scaler(addresses), *arguments)


def compile_functions() -> SimpleNamespace:
    """Return the compiled copies by name."""
    with _LOCK:
        return _compile_functions()


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
    compiled = {function.__name__: copies[id(function)] for function in FUNCTIONS}
    return SimpleNamespace(**compiled, bound={each.__name__: _compile_entry(each, compiled, digest) for each in _BOUND})


def _compile_entry(function: Any, compiled: dict[str, Any], digest: int) -> Any:
    """Return a compiled function whose first argument is the addresses of a state's arrays (``bind_functions``)."""
    source = _enter_scaler if function.__code__.co_varnames[1] == "k" else _enter
    entry = FunctionType(source.__code__, {**globals(), "_function": compiled[function.__name__]}, source.__name__)
    entry.__qualname__ = f"{function.__name__}_entry_{digest:08x}"
    return njit(cache=True, nogil=True, error_model="numpy")(entry)


def bind_functions(world: EngineState, deciding: ScalerState) -> SimpleNamespace:
    """Return the compiled functions; those that are called often keep the state of one simulation, and ignore the argument."""
    functions = compile_functions()
    rules = np.array(deciding.rules, np.float64)
    # The array of a record is a view of it.
    arrays = [np.asarray(value) for value in (*world[:-1], *deciding[:-2], rules, deciding.ticks)]
    addresses = np.array([(array.ctypes.data, array.size) for array in arrays], np.int64).reshape(-1)
    bound = {}
    for name, entry in functions.bound.items():
        skipped = 2 if entry.py_func.__code__ is _enter_scaler.__code__ else 1
        bound[name] = partial(_call_entry, entry, addresses, skipped, rules)
    return SimpleNamespace(**{**vars(functions), **bound})


def _call_entry(entry: Any, addresses: Any, skipped: int, _rules: Any, *arguments: Any) -> Any:
    """Call an entry without the state; ``_rules`` keeps the array whose address is in ``addresses``."""
    return entry(addresses, *arguments[skipped:])
