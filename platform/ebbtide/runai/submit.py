"""``ebbtide submit NAME …``: create a workload from a command line of Run:ai, or print its manifests."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base.common import exit_code, print_problems, read_profile
from ebbtide.cli.base.connection import CONNECTION, make_wait_option, profile_command
from ebbtide.cli.base.options import (
    FORCE,
    FULL,
    LIVE_PROFILE,
    YES,
    Options,
    add_options,
    make_option,
    make_output_option,
    make_switch,
)
from ebbtide.core import manifests
from ebbtide.core.documents.check import Batch
from ebbtide.runai import command_lines, flags

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from ebbtide.cli.base.connection import Cluster
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan

DESCRIPTION: Final = """Create a workload from the flags of `runai inference submit`, or from a whole line of Run:ai.

  $ ebbtide submit chat -p team-a -i vllm/vllm-openai:v0.32.0 --serving-port 8000 -g 1 --profile full --dry-run
  $ ebbtide submit runai inference submit chat -p team-a -i vllm/vllm-openai:v0.32.0 --serving-port 8000 --dry-run
"""
#: Ebbtide's flags in addition to Run:ai's.
EBBTIDE_OPTIONS: Final = (
    make_switch("--dry-run", help="Print the manifests instead of applying them"),
    LIVE_PROFILE,
    *CONNECTION,
    YES,
    make_wait_option("the workload is ready", "5m"),
    make_output_option("text", "json", "name"),
    FORCE,
    FULL,
)
#: Options for help and completion; ``ebbtide.runai.flags`` parses them.
OPTIONS: Final = (
    make_option("name", nargs="?", metavar="NAME", help="Name of the workload"),
    *EBBTIDE_OPTIONS,
    *(
        make_switch(*filter(None, (flag.short, flag.name)), help=flag.help)
        if flag.kind == "switch"
        else make_option(*filter(None, (flag.short, flag.name)), help=flag.help)
        for flag in flags.FLAGS
    ),
)


def run_words(words: list[str]) -> int:
    """Parse Run:ai's flags, and create or print the workload. An existing workload is never changed."""
    if not words or {"-h", "--help"}.intersection(words):
        sys.stdout.write(_make_parser().format_help() + flags.format_flags())
        return 0 if words else 2
    words, options = _split_words(words)

    if options.dry_run:
        objects, _ = _translate(words, read_profile(options.profile))
        as_json = options.output == "json"
        sys.stdout.writelines([manifests.write_json(objects)] if as_json else manifests.write_documents(objects))
        return 0
    from ebbtide.cli.run.apply import apply_workloads
    from ebbtide.cluster.write.apply import Workload

    @profile_command
    def create(cluster: Cluster, options: Options, profile: Profile) -> int:
        objects, plan = _translate(words, profile)
        return apply_workloads(cluster, [Workload(tuple(objects), plan)], options, create=True)

    return create(options)


def _translate(words: list[str], profile: Profile) -> tuple[list[Object], Plan]:
    """Return the objects of Run:ai's words and their plan, or print the problems and exit."""
    from ebbtide.core.readers.loaded import validate_reading

    loaded = validate_reading(command_lines.read_command_line(words, profile), "submit")
    batch = Batch(profile)
    objects, result, problems = batch.add_document(loaded)
    problems = problems + batch.batch_problems()
    print_problems(problems)
    if code := exit_code(problems):
        raise SystemExit(code)
    assert result is not None
    assert result.plan is not None
    return objects, result.plan


def _make_parser() -> ArgumentParser:
    """Return the parser of Ebbtide's options, whose help has no flags of Run:ai."""
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    usage = "ebbtide submit NAME [options] [flags] [-- ARGUMENTS]"
    parser = ArgumentParser(
        "ebbtide submit",
        usage,
        DESCRIPTION,
        add_help=False,
        allow_abbrev=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_options(parser, EBBTIDE_OPTIONS)
    return parser


def _split_words(words: list[str]) -> tuple[list[str], Options]:
    """Split the arguments into Run:ai's words and Ebbtide's parsed options."""
    runai_words: list[str] = []
    own_words: list[str] = []
    known = {name: option_ for option_ in EBBTIDE_OPTIONS for name in option_.names}
    remaining = iter(words)
    for word in remaining:
        flag, equals, _ = word.partition("=")
        option_ = known.get(flag)
        if word == "--":
            runai_words += [word, *remaining]
        elif option_ is None or (option_.is_switch and equals):
            runai_words.append(word)
        else:
            own_words += [word] if option_.is_switch or equals else [word, *islice(remaining, 1)]
    return runai_words, _make_parser().parse_args(own_words)
