"""``ebbtide submit NAME …``: create a workload from a command line of Run:ai, or print its manifests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.common import exit_code, print_problems, read_profile
from ebbtide.cli.connection import CONNECTION, parse_wait, run_with_profile
from ebbtide.cli.options import (
    FORCE,
    FULL,
    LIVE_PROFILE,
    YES,
    Option,
    Options,
    make_option,
    make_output_option,
    make_switch,
)
from ebbtide.core import manifests
from ebbtide.core.documents.check import Batch
from ebbtide.runai import command_lines, flags, nim_flags

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan

FORMATS: Final = ("text", "json", "name")
#: A whole line of Run:ai, as an example in the help.
OF_NIM: Final = (
    "runai inference nim submit llm -p team-a -i nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.0 --ngc-auth-secret ngc "
    "--serving-port 8000 -g 1 --profile full --dry-run"
)
#: Ebbtide's flags in addition to Run:ai's.
EBBTIDE_OPTIONS: Final = (
    make_switch("--dry-run", help="Print the manifests instead of applying them"),
    LIVE_PROFILE,
    *CONNECTION,
    YES,
    make_option(
        "--wait",
        metavar="TIME",
        default="5m",
        help="Time to wait until the workload is ready, as in 90s; 0 does not wait (default: 5m)",
    ),
    make_output_option(*FORMATS),
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
        for flag in (*flags.FLAGS, *(flag for flag in nim_flags.OWN if flag.name not in flags.BY_NAME))
    ),
)


def run_words(words: list[str]) -> int:
    """Parse Run:ai's flags, and create or print the workload. An existing workload is never changed."""
    from ebbtide.core.readers.loaded import validate_reading

    if not words or {"-h", "--help"}.intersection(words):
        sys.stdout.write(_make_help())
        return 0 if words else 2
    words, options = _split_words(words)
    if options.output not in FORMATS:
        sys.stderr.write(f"error: invalid --output {options.output!r}: must be one of {', '.join(FORMATS)}\n")
        return 2

    def prepare(profile: Profile) -> tuple[list[Object], Plan] | int:
        loaded = validate_reading(command_lines.read_command_line(words, profile), "submit")
        batch = Batch(profile)
        objects, result, problems = batch.add_document(loaded)
        problems = problems + batch.batch_problems()
        print_problems(problems)
        if code := exit_code(problems):
            return code
        assert result is not None
        assert result.plan is not None
        return objects, result.plan

    if options.dry_run:
        prepared = prepare(read_profile(options.profile))
        if isinstance(prepared, int):
            return prepared
        as_json = options.output == "json"
        sys.stdout.writelines(
            [manifests.write_json(prepared[0])] if as_json else manifests.write_documents(prepared[0])
        )
        return 0
    from ebbtide.cli.apply import apply_workloads
    from ebbtide.cluster.write.apply import Workload

    limit = parse_wait(options)
    return run_with_profile(
        options,
        prepare,
        lambda cluster, prepared: apply_workloads(
            cluster, [Workload(tuple(prepared[0]), prepared[1])], options, limit, create=True
        ),
    )


def _make_help() -> str:
    """Return the help text: Ebbtide's options, then Run:ai's flags."""
    rows = [
        (f"{', '.join(option_.names)} {'' if option_.is_switch else _placeholder(option_)}".rstrip(), option_)
        for option_ in EBBTIDE_OPTIONS
    ]
    width = max(len(form) for form, _ in rows)
    lines = [f"  {form:<{width}}  {option_.settings['help']}" for form, option_ in rows]
    return "\n".join(
        [
            "usage: ebbtide submit NAME [options] [flags] [-- ARGUMENTS]",
            "",
            "Create a workload from the flags of `runai inference submit`, or from a whole line of Run:ai.",
            "",
            "  $ ebbtide submit chat -p team-a -i vllm/vllm-openai:v0.11.0 --serving-port 8000 -g 1 --profile full --dry-run",
            f"  $ ebbtide submit {OF_NIM}",
            "",
            "Options of Ebbtide:",
            *lines,
            flags.format_flags((*flags.FLAGS, *nim_flags.OWN)),
        ]
    )


def _placeholder(option_: Option) -> str:
    choices = option_.settings.get("choices")
    return f"{{{','.join(choices)}}}" if choices else str(option_.settings["metavar"])


def _split_words(words: list[str]) -> tuple[list[str], Options]:
    """Split the arguments into Run:ai's words and Ebbtide's parsed options."""
    from argparse import Namespace

    runai_words: list[str] = []
    known = {name: option_ for option_ in EBBTIDE_OPTIONS for name in option_.names}
    options = Namespace(**{option_.dest: option_.default for option_ in EBBTIDE_OPTIONS})
    remaining = iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        option_ = known.get(flag)
        if word == "--":
            runai_words += [word, *remaining]
        elif option_ is not None and not option_.is_switch:
            setattr(options, option_.dest, value if equals else next(remaining, option_.default))
        elif option_ is not None and not equals:
            setattr(options, option_.dest, True)
        else:
            runai_words.append(word)
    return runai_words, options
