"""``ebbtide submit NAME …``: the flags of ``runai inference submit``; with --dry-run the manifests are printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide import manifests, profiles
from ebbtide.check import Batch
from ebbtide.cli.common import exit_code, profile_or_problems, show

if TYPE_CHECKING:
    import argparse

OWN: Final = ("--dry-run", "--profile")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, for help and completion; they are read by ``ebbtide.intake.flags``."""
    from ebbtide.intake.flags import FLAGS  # noqa: PLC0415 - a long table

    parser.add_argument("name", nargs="?", metavar="NAME", help="the workload's name")
    parser.add_argument("--dry-run", action="store_true", help="print the manifests instead of submitting them")
    parser.add_argument("--profile", metavar="P", default=profiles.BUILT_IN_NAME, help="what the cluster offers")
    for flag in FLAGS:
        names = [*([flag.short] if flag.short else []), flag.name]
        parser.add_argument(*names, help=flag.help, default=None)


def run(options: argparse.Namespace) -> int:  # pragma: no cover - submit's words never pass through argparse
    """Never called: see ``run_words``."""
    raise NotImplementedError(options)


def run_words(words: list[str]) -> int:
    """Read Run:ai's flags and render."""
    from ebbtide.intake import flags, loaded_from  # noqa: PLC0415 - only this command needs them

    if not words or {"-h", "--help"}.intersection(words):
        sys.stdout.write(flags.usage() + "\n")
        return 0 if words else 2
    words, where, dry = _own(words)
    profile = profile_or_problems(where)
    if profile is None:
        return 1
    loaded = loaded_from(flags.read_flags(words, profile), "submit")
    batch = Batch(profile)
    objects, _, problems = batch.add(loaded)
    problems = problems + batch.finish()
    show(problems)
    code = exit_code(problems)
    if code:
        return code
    if not dry:
        sys.stderr.write("submit prints only, for now: say --dry-run and pipe the manifests into kubectl apply -f -\n")
        return 2
    sys.stdout.writelines(manifests.write(objects))
    return 0


def _own(words: list[str]) -> tuple[list[str], str, bool]:
    """Return Run:ai's words without ours, the profile, and whether it is a dry run."""
    rest: list[str] = []
    where, dry = profiles.BUILT_IN_NAME, False
    todo = iter(words)
    for word in todo:
        if word == "--":
            rest += [word, *todo]
        elif word == "--dry-run":
            dry = True
        elif word == "--profile":
            where = next(todo, where)
        elif word.startswith("--profile="):
            where = word.partition("=")[2]
        else:
            rest.append(word)
    return rest, where, dry
