"""Where things lie: sources in the checkout, what is built in the user's cache, a cluster's state in `.cluster`."""

import os
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
MODULES: Final = HERE / "modules"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ebbtide-e2e"
"""Shared by all checkouts: a second clone builds nothing."""
CLUSTERS: Final = ROOT / ".cluster"


def state(name: str) -> Path:
    """Return the folder of one cluster's state; the one named `ebbtide` has its kubeconfig at `.cluster/kubeconfig`."""
    return CLUSTERS if name == DEFAULT else CLUSTERS / name


DEFAULT: Final = "ebbtide"
