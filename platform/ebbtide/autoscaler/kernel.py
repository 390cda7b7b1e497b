"""The subset of Python that the simulator may compile, and the list of the functions that are written in it.

A kernel function works the same as plain Python and compiled by numba. It takes numbers, lists or arrays of numbers, and
named tuples of them; whole numbers stay within 64 bits; it calls other kernel functions by their bare names, and has no
default arguments. Nothing here needs numba: ``ebbtide.simulate.compiled`` compiles copies of the listed functions.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Any, Final, TypeAlias, TypeVar

Floats: TypeAlias = MutableSequence[float]
Ints: TypeAlias = MutableSequence[int]

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: All kernel functions that have been imported.
FUNCTIONS: Final[list[Callable[..., Any]]] = []
#: Those of them that are called for each request: their compiled copies become part of what calls them.
HOT: Final[set[Callable[..., Any]]] = set()


def kernel(function: _Function) -> _Function:
    """List a function as one that may be compiled."""
    FUNCTIONS.append(function)
    return function


def hot(function: _Function) -> _Function:
    """List a function as one that may be compiled, and that is called for each request."""
    HOT.add(function)
    return kernel(function)
