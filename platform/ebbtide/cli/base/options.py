"""Command options as data, and the options that several commands share. Imports argparse for type checking only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from ebbtide.core.profile.built_in import BUILT_IN_NAME, BUILT_INS

if TYPE_CHECKING:
    import re
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterable

T = TypeVar("T")
#: Parsed option values of a command.
Options: TypeAlias = "Namespace"
#: Group of mutually exclusive options; any other group name is a title in the help.
ONE_OF: Final = "one of"
#: Largest int32, the integer type of Knative's annotations and of Kubernetes' replica counts.
MAX_INT32: Final = 2**31 - 1
#: Highest TCP port.
MAX_PORT: Final = 65535


class Option(NamedTuple):
    """One option of a command, with its keyword arguments for ``add_argument``."""

    names: tuple[str, ...]
    settings: dict[str, Any]
    group: str

    @property
    def dest(self) -> str:
        """Attribute name of the parsed value."""
        return self.names[-1].lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """True if the option takes no value."""
        return "action" in self.settings


def make_option(*names: str, group: str = "", **settings: Any) -> Option:
    """Return an option with its names, or a positional argument with its one name, and the settings for argparse."""
    return Option(names, settings, group)


def make_switch(*names: str, help: str, group: str = "") -> Option:  # noqa: A002 - argparse's parameter name
    """Return a Boolean option."""
    return make_option(*names, group=group, action="store_true", help=help)


def make_output_option(*formats: str) -> Option:
    """Return the option ``--output``; the first format is the default."""

    def read(text: str) -> str:
        if text == "wide" and text not in formats:
            raise make_type_error(text, f"one of {', '.join(formats)}; for more columns, run ebbtide list -o wide")
        return text

    return make_option(
        "-o", "--output", type=read, choices=formats, default=formats[0], help=f"Output format (default: {formats[0]})"
    )


def make_type_error(text: str, requirement: str) -> Exception:
    """Return the error of an option's value, which argparse reports; argparse is loaded by then."""
    from argparse import ArgumentTypeError

    return ArgumentTypeError(f"invalid value {text!r}: must be {requirement}")


def make_parser(parse: Callable[..., T], *bounds: float, **form: bool) -> Callable[[str], T]:
    """Return a parser for an option from a function that raises ValueError; argparse reports the message."""

    def read(text: str) -> T:
        from argparse import ArgumentTypeError

        try:
            return parse(text, *bounds, **form)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return read


def make_match_parser(form: re.Pattern[str], example: str) -> Callable[[str], tuple[str, ...]]:
    """Return a parser for an option that matches a pattern, whose groups are its value."""

    def read(text: str) -> tuple[str, ...]:
        match = form.fullmatch(text)
        if match is None:
            raise make_type_error(text, f"as in {example}")
        return match.groups()

    return read


def make_port_option(default: int, title: str) -> Option:
    """Return the option ``--port`` of a server."""
    from ebbtide.core.units import parse_whole

    return make_option(
        "--port",
        metavar="N",
        type=make_parser(parse_whole, 0, MAX_PORT),
        default=default,
        help=f"{title}; 0 selects a free port (default: {default})",
    )


#: The environment variable that names the profile of commands without ``--profile``.
PROFILE_VARIABLE: Final = "EBBTIDE_PROFILE"


def make_profile_option(default: str) -> Option:
    """Return the option ``--profile``, empty if it is not set; ``default`` describes the profile that then applies."""
    return make_option(
        "--profile",
        metavar="P",
        default="",
        help=f"Cluster profile: a file, a directory, {' or '.join(BUILT_INS)} "
        f"(default: ${PROFILE_VARIABLE}, or {default})",
    )


#: ``--profile`` of a command that reads specs and needs no cluster, and of one that connects to a cluster.
PROFILE: Final = make_profile_option(f"profile.yaml in the folder of the specs, or {BUILT_IN_NAME}")
LIVE_PROFILE: Final = make_profile_option("that of the cluster as observed")
SPECS: Final = make_option(
    "files", nargs="+", metavar="FILE", help="Spec file, directory of spec files, or - for stdin"
)
FILES: Final = (SPECS, PROFILE)


def add_options(parser: ArgumentParser, options: Iterable[Option]) -> None:
    groups: dict[str, Any] = {"": parser}
    for names, settings, group in options:
        if group not in groups:
            groups[group] = (
                parser.add_mutually_exclusive_group() if group == ONE_OF else parser.add_argument_group(group)
            )
        groups[group].add_argument(*names, **settings)


YES: Final = make_switch("-y", "--yes", help="Skip the confirmation prompt")
QUIET: Final = make_switch("-q", "--quiet", help="Do not print warnings")
FULL: Final = make_switch("--full", help="Show long values in the plan")
FORCE: Final = make_switch("--force", help="Take over fields that other field managers own")
