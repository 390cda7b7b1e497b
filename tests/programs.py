"""Modules that are loaded from their file: programs of `tools`, and code of pages."""

import importlib.util
import sys
from pathlib import Path
from typing import Any


def load_module(file: Path) -> Any:
    """Return a file as a module with its name; a dataclass looks its module up by name."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module
