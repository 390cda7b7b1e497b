"""Translate a short inference spec into the Kubernetes objects that serve it on Knative and KServe.

The public functions are `load`, `check`, `translate` and `explain`. Each is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ebbtide.core.documents import load_document as load
    from ebbtide.core.documents.check import check_documents as check
    from ebbtide.core.documents.explain import explain_document as explain
    from ebbtide.core.translation.translate import translate

__all__ = ["__version__", "check", "explain", "load", "translate"]
__version__ = "0.1.0"

_HOMES: Final = {
    "check": ("ebbtide.core.documents.check", "check_documents"),
    "explain": ("ebbtide.core.documents.explain", "explain_document"),
    "load": ("ebbtide.core.documents", "load_document"),
    "translate": ("ebbtide.core.translation.translate", "translate"),
}


def __getattr__(name: str) -> Any:
    """Import and return a public function."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _HOMES[name]
    return getattr(import_module(module), function)
