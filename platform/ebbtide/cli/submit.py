"""``ebbtide submit NAME …``: the flags of ``runai inference submit``; applied, or with --dry-run printed."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide import manifests
from ebbtide.cli.common import exit_code, read_profile, show
from ebbtide.cli.connection import CONNECTION
from ebbtide.cli.options import FORCE, YES, Options, option, output, switch
from ebbtide.documents.check import Batch
from ebbtide.profile.built_in import BUILT_IN_NAME
from ebbtide.readers import flags

FORMS: Final = ("text", "json", "name")
#: Our own flags beside Run:ai's.
OWN: Final = (
    switch("--dry-run", help="print the manifests instead of submitting them"),
    option("--profile", metavar="P", default=BUILT_IN_NAME, help="what the cluster offers"),
    *CONNECTION,
    YES,
    option("--wait", metavar="TIME", default="5m", help="how long to wait until it serves: 90s, 5m, 0; default 5m"),
    output(*FORMS),
    FORCE,
)
#: For help and completion; they are read by ``ebbtide.readers.flags``.
OPTIONS: Final = (
    option("name", nargs="?", metavar="NAME", help="the workload's name"),
    *OWN,
    *(option(*filter(None, (flag.short, flag.name)), help=flag.help) for flag in flags.FLAGS),
)


def run(options: Options) -> int:  # pragma: no cover - submit's words never pass through argparse
    """Never called: see ``run_words``."""
    raise NotImplementedError(options)


def run_words(words: list[str]) -> int:
    """Read Run:ai's flags, and create or render; a name that is taken stays whose it is."""
    from ebbtide.readers.loaded import loaded_from  # noqa: PLC0415 - only this command needs them

    if not words or {"-h", "--help"}.intersection(words):
        sys.stdout.write(flags.usage() + "\n")
        return 0 if words else 2
    words, own = _own(words)
    if own.output not in FORMS:
        sys.stderr.write(f"-o {own.output}: choose from {', '.join(FORMS)}\n")
        return 2
    profile = read_profile(own.profile)
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


def _own(words: list[str]) -> tuple[list[str], Options]:
    """Return Run:ai's words without ours, and ours."""
    from argparse import Namespace  # noqa: PLC0415 - only this command makes one itself

    rest: list[str] = []
    known = {name: each for each in OWN for name in each.names}
    own = Namespace(**{each.dest: each.default for each in OWN})
    todo = iter(words)
    for word in todo:
        flag, equal, value = word.partition("=")
        each = known.get(flag)
        if word == "--":
            rest += [word, *todo]
        elif each is not None and not each.is_switch:
            setattr(own, each.dest, value if equal else next(todo, each.default))
        elif each is not None and not equal:
            setattr(own, each.dest, True)
        else:
            rest.append(word)
    return rest, own
