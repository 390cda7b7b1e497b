"""Ebbtide turns a short inference spec into the Kubernetes objects that serve it on Knative and KServe.

The public verbs are ``load``, ``check``, ``translate`` and ``explain``; they are imported when first used, so
that a command that needs one of them pays for no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.check import check
    from ebbtide.explain import explain
    from ebbtide.intake import load
    from ebbtide.translate import translate

__version__ = "0.1.0"
__all__ = ["__version__", "check", "explain", "load", "translate"]
_HOME = {
    "explain": "ebbtide.explain",
    "load": "ebbtide.intake",
    "translate": "ebbtide.translate",
    "check": "ebbtide.check",
}


def __getattr__(name: str) -> Any:
    """Import a public verb when it is first asked for."""
    from importlib import import_module  # noqa: PLC0415 - lazy on purpose

    if name not in _HOME:
        raise AttributeError(name)
    return getattr(import_module(_HOME[name]), name)
