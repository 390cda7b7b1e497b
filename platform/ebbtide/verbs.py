"""The public verbs: read a document, list its problems, translate it, explain the outcome."""

from ebbtide.check import check
from ebbtide.explain import explain
from ebbtide.intake import load
from ebbtide.translate import translate

__all__ = ["check", "explain", "load", "translate"]
