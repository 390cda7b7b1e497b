"""The registries: optional parts of Ebbtide, and parts that other installed packages add.

Another package registers a part as an entry point of one of the groups below. Ebbtide's own optional parts are the rows of
``OWN``, so that they are found without the metadata of all installed packages, which takes 40 ms to read. A row whose
module was removed does not exist. Upstream: packaging.python.org, specification "Entry points".
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")

#: A ``Reader`` (``ebbtide.core.readers.reading``) of an input format.
READERS: Final = "ebbtide.readers"
#: A module with ``HELP``, ``OPTIONS`` and ``run``, or with ``run_words`` for a command that parses its own arguments.
COMMANDS: Final = "ebbtide.commands"
#: A ``PathFamily`` (``ebbtide.server.api.families``): a router with paths of the API, and the format of their errors.
ROUTERS: Final = "ebbtide.routers"
#: A ``Backend`` (``ebbtide.core.translation.gpu.backend``): a way of sharing GPUs. Its name is that of the entry point.
BACKENDS: Final = "ebbtide.backends"
#: A module with ``run_on_demo`` and ``serve_demo``: the simulated cluster of ``--demo``.
DEMO: Final = "ebbtide.demo"


class PluginError(Exception):
    """A part that cannot be used. The message names its distribution."""


class Part(NamedTuple):
    """One part: its group and name, ``module`` or ``module:attribute``, and its distribution, empty for Ebbtide."""

    group: str
    name: str
    target: str
    distribution: str = ""

    def load(self, kind: type[T]) -> T:
        """Return the part, which must be an instance of ``kind``.

        Raises:
            PluginError: another package's part cannot be imported or is something else.
        """
        module, _, attribute = self.target.partition(":")
        try:
            value: Any = import_module(module)
            for name in filter(None, attribute.split(".")):
                value = getattr(value, name)
        except Exception as error:
            if not self.distribution:
                raise
            raise self.make_error(f"{type(error).__name__}: {error}") from error
        if not isinstance(value, kind):
            raise self.make_error(f"{self.target} must be a {kind.__name__}, not a {type(value).__name__}")
        return value

    def make_error(self, reason: str) -> PluginError:
        """Return the error of a part that cannot be used."""
        return PluginError(
            f"the package {self.distribution} registers {self.name} in {self.group}, which cannot be used: {reason}; "
            f"update {self.distribution}, or remove it with pip uninstall {self.distribution}"
        )


#: Ebbtide's own optional parts, by group and name.
OWN: Final[dict[str, dict[str, str]]] = {
    READERS: {},
    COMMANDS: {"submit": "ebbtide.runai.submit", "import": "ebbtide.runai.importing"},
    ROUTERS: {"runai": "ebbtide.runai.routes:FAMILY"},
    BACKENDS: {},
    DEMO: {"demo": "ebbtide.sandbox.demo"},
}


@cache
def list_own(group: str) -> tuple[Part, ...]:
    """Return Ebbtide's own parts of a group that are installed."""
    return tuple(Part(group, name, target) for name, target in OWN[group].items() if _is_installed(target))


def _is_installed(target: str) -> bool:
    try:
        return find_spec(target.partition(":")[0]) is not None
    except ImportError:
        # Its package does not exist either.
        return False


@cache
def list_added(group: str) -> tuple[Part, ...]:
    """Return the parts of a group that other packages register."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to load

    return tuple(
        Part(group, point.name, point.value, point.dist.name)
        for point in entry_points(group=group)
        # It is None only for an entry point that a program made.
        if point.dist is not None
    )


def find_part(group: str, name: str) -> Part | None:
    """Return a part by its name, or None. Another package cannot replace an own part.

    Raises:
        PluginError: two packages register the name.
    """
    if own := next((part for part in list_own(group) if part.name == name), None):
        return own
    parts = [part for part in list_added(group) if part.name == name]
    if len(parts) > 1:
        raise parts[1].make_error(f"{parts[0].distribution} registers the same name")
    return parts[0] if parts else None


def require_part(group: str, name: str, feature: str) -> Part:
    """Return a part that Ebbtide contains unless it was removed.

    Raises:
        PluginError: it was removed; the message names the feature that needs it.
    """
    part = find_part(group, name)
    if part is None:
        raise _make_missing_error(OWN[group][name].partition(":")[0], feature)
    return part


def require_module(module: str, feature: str) -> None:
    """Check that a module that Ebbtide contains was not removed.

    Raises:
        PluginError: it was removed; the message names the feature that needs it.
    """
    if not _is_installed(module):
        raise _make_missing_error(module, feature)


def _make_missing_error(module: str, feature: str) -> PluginError:
    return PluginError(f"{feature} needs {module}, which this installation does not contain: reinstall the wheel")
