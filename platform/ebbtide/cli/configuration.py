"""The user's configuration file: the profile and the Prometheus of commands for which neither is set otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

from ebbtide.core.base.prose import make_printable

#: The environment variable that names the file; empty for none.
CONFIG_VARIABLE: Final = "EBBTIDE_CONFIG"
USAGE: Final = 2
#: The settings, and the one that is a path, relative to the file's directory.
SETTINGS: Final = ("profile", "prometheus")
PATH: Final = "profile"


def find_setting(name: str) -> str:
    """Return a setting of the configuration file, an empty string if it is not set; exit if the file is invalid."""
    return _read_settings().get(name, "")


def find_file() -> Path | None:
    """Return the configuration file that the environment names, or the user's; None if there is none."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    home = os.environ.get("HOME")
    base = os.environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    path = Path(base) / "ebbtide" / "config.yaml"
    return path if base and path.is_file() else None


def _reject(text: str) -> NoReturn:
    sys.stderr.write(f"{make_printable(text)}\n")
    raise SystemExit(USAGE)


@cache
def _read_settings() -> Mapping[str, str]:
    path = find_file()
    if path is None:
        return {}
    from ebbtide.core.documents.files import read_file
    from ebbtide.core.manifests import read_documents
    from ebbtide.core.profile.built_in import BUILT_INS

    try:
        text = read_file(path)
    except OSError as error:
        _reject(f"error: cannot read the configuration {path}: {(error.strerror or 'unknown error').lower()}")
    document = next(iter(read_documents(text, str(path))), None)
    data = {} if document is None else document.data
    for problem in () if document is None else document.problems:
        _reject(f"error: invalid configuration {path}:{problem.line}: {problem.message}")
    if not isinstance(data, dict):
        _reject(f"error: invalid configuration {path}: must be a mapping of {' and '.join(SETTINGS)}")
    for name, value in data.items():
        if name not in SETTINGS or not isinstance(value, str):
            _reject(
                f"error: invalid configuration {path}: "
                + (
                    f"{name} must be text"
                    if name in SETTINGS
                    else f"unknown setting {name}; use {' or '.join(SETTINGS)}"
                )
            )
    settings = dict(data)
    if PATH in settings and settings[PATH] not in BUILT_INS:
        settings[PATH] = str(path.parent / Path(settings[PATH]).expanduser())
    return settings
