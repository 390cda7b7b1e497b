"""Options of commands as data, and those that several commands share. Loads nothing but argparse's own names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ebbtide.profile.built_in import BUILT_IN_NAME

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable

#: The values of a command's options.
Options: TypeAlias = "Namespace"
#: The group of options of which a call has at most one; another group is a title in the help.
ONE_OF: Final = "one of"


class Option(NamedTuple):
    """One option of a command, with argparse's settings."""

    names: tuple[str, ...]
    settings: dict[str, Any]
    group: str

    @property
    def dest(self) -> str:
        """The name of its value."""
        return self.names[-1].lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Return whether it takes no value."""
        return "action" in self.settings

    @property
    def default(self) -> Any:
        """Its value where the call does not have it."""
        return self.settings.get("default", False if self.is_switch else None)


def option(*names: str, group: str = "", **settings: Any) -> Option:
    """Return an option by its names, or an argument by its one name, with the settings that argparse takes."""
    return Option(names, settings, group)


def switch(*names: str, help: str, group: str = "") -> Option:  # noqa: A002 - argparse's own word
    """Return an option without a value."""
    return option(*names, group=group, action="store_true", help=help)


def output(*forms: str) -> Option:
    """Return the option for the form of the answer, the first one by default."""
    return option("-o", "--output", choices=forms, default=forms[0], help=f"default {forms[0]}")


PROFILE: Final = option(
    "--profile",
    metavar="P",
    default=BUILT_IN_NAME,
    help="what the cluster offers: a file, a folder with profile.yaml, or built-in (default)",
)
FILES: Final = (option("files", nargs="+", metavar="FILE", help="a file, a folder, or - for stdin"), PROFILE)


def add_options(parser: ArgumentParser, options: Iterable[Option]) -> None:
    places: dict[str, Any] = {"": parser}
    for names, settings, group in options:
        if group not in places:
            places[group] = (
                parser.add_mutually_exclusive_group() if group == ONE_OF else parser.add_argument_group(group)
            )
        places[group].add_argument(*names, **settings)


YES: Final = switch("-y", "--yes", help="do not ask")
QUIET: Final = switch("-q", "--quiet", help="do not print warnings")
FORCE: Final = switch("--force", help="take fields over that other field managers own")
