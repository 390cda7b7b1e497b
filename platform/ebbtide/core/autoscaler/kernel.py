"""Registry of the functions that the simulator may compile with numba.

A kernel function returns the same results in plain Python and compiled by numba. Its arguments are numbers, lists or arrays
of numbers, rows of numbers with names (``ebbtide.simulator.engine.state``), and named tuples of these; integers fit into 64 bits; it
calls other kernel functions by their unqualified names; it has no default arguments. This module does not need numba:
``ebbtide.simulator.engine.compiled`` compiles copies of the functions.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Any, Final, TypeAlias, TypeVar

Floats: TypeAlias = MutableSequence[float]
Ints: TypeAlias = MutableSequence[int]

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: All kernel functions of the imported modules.
FUNCTIONS: Final[list[Callable[..., Any]]] = []
#: Kernel functions that are called for each request; their compiled copies are inlined into their callers.
HOT: Final[set[Callable[..., Any]]] = set()


def kernel(function: _Function) -> _Function:
    """Register a function that may be compiled."""
    FUNCTIONS.append(function)
    return function


def hot_kernel(function: _Function) -> _Function:
    """Register a function that may be compiled and is called for each request."""
    HOT.add(function)
    return kernel(function)
