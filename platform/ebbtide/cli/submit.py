"""``ebbtide submit NAME …``: the flags of ``runai inference submit``; applied, or with --dry-run printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide import manifests
from ebbtide.cli.common import exit_code, profile_or_problems, show
from ebbtide.documents import profiles
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    import argparse

#: Our own flags beside Run:ai's: those with a value, and its default.
VALUES: Final = {
    "--profile": profiles.BUILT_IN_NAME,
    "--kubeconfig": None,
    "--context": None,
    "--wait": "5m",
    "--output": "text",
}
SHORT: Final = {"-o": "--output"}
FORMS: Final = ("text", "json", "name")
SWITCHES: Final = {"--dry-run": "dry_run", "--yes": "yes", "-y": "yes", "--force": "force"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, for help and completion; they are read by ``ebbtide.readers.flags``."""
    from ebbtide.readers.flags import FLAGS  # noqa: PLC0415 - a long table

    parser.add_argument("name", nargs="?", metavar="NAME", help="the workload's name")
    parser.add_argument("--dry-run", action="store_true", help="print the manifests instead of submitting them")
    parser.add_argument("--profile", metavar="P", default=profiles.BUILT_IN_NAME, help="what the cluster offers")
    parser.add_argument("--kubeconfig", metavar="FILE", help="the kubeconfig; default KUBECONFIG, or the user's own")
    parser.add_argument("--context", metavar="NAME", help="a context of the kubeconfig; default its current one")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--wait", metavar="TIME", help="how long to wait until it serves: 90s, 5m, 0; default 5m")
    parser.add_argument("-o", "--output", choices=FORMS, default=FORMS[0], help="default text")
    parser.add_argument("--force", action="store_true", help="take fields over that other field managers own")
    for flag in FLAGS:
        names = [*([flag.short] if flag.short else []), flag.name]
        parser.add_argument(*names, help=flag.help, default=None)


def run(options: argparse.Namespace) -> int:  # pragma: no cover - submit's words never pass through argparse
    """Never called: see ``run_words``."""
    raise NotImplementedError(options)


def run_words(words: list[str]) -> int:
    """Read Run:ai's flags, and create or render; a name that is taken stays whose it is."""
    from ebbtide.readers import flags  # noqa: PLC0415 - only this command needs them
    from ebbtide.readers.loaded import loaded_from  # noqa: PLC0415 - only this command needs them

    if not words or {"-h", "--help"}.intersection(words):
        sys.stdout.write(flags.usage() + "\n")
        return 0 if words else 2
    words, own = _own(words)
    if own.output not in FORMS:
        sys.stderr.write(f"-o {own.output}: choose from {', '.join(FORMS)}\n")
        return 2
    profile = profile_or_problems(own.profile)
    if profile is None:
        return 1
    loaded = loaded_from(flags.read_flags(words, profile), "submit")
    batch = Batch(profile)
    objects, made, problems = batch.add(loaded)
    problems = problems + batch.finish()
    show(problems)
    code = exit_code(problems)
    if code:
        return code
    if own.dry_run:
        as_json = own.output == "json"
        sys.stdout.writelines([manifests.write_json(objects)] if as_json else manifests.write(objects))
        return 0
    from ebbtide.cli.apply import applied  # noqa: PLC0415 - a dry run needs no cluster
    from ebbtide.cluster.write.apply import Workload  # noqa: PLC0415 - as above

    assert made is not None
    assert made.plan is not None
    own.dry_run = False
    return applied([Workload(tuple(objects), made.plan)], own, create=True)


def _own(words: list[str]) -> tuple[list[str], argparse.Namespace]:
    """Return Run:ai's words without ours, and ours."""
    from argparse import Namespace  # noqa: PLC0415 - only this command makes one itself

    rest: list[str] = []
    own = Namespace(
        **{flag.lstrip("-"): value for flag, value in VALUES.items()}, dry_run=False, yes=False, force=False
    )
    todo = iter(words)
    for word in todo:
        flag, equal, value = word.partition("=")
        flag = SHORT.get(flag, flag)
        if word == "--":
            rest += [word, *todo]
        elif word in SWITCHES:
            setattr(own, SWITCHES[word], True)
        elif flag in VALUES:
            setattr(own, flag.lstrip("-"), value if equal else next(todo, VALUES[flag]))
        else:
            rest.append(word)
    return rest, own
