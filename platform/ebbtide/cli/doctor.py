"""``ebbtide doctor``: what the cluster has and lacks, for a profile and for specs, and the patch that mends it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.base.prose import counted, printable
from ebbtide.cli import connection, terminal
from ebbtide.cli.common import (
    COLOURS,
    add_profile,
    coloured,
    documents,
    exit_code,
    profile_or_problems,
    show,
    sources,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.cluster.doctor.findings import Finding, Patch
    from ebbtide.cluster.doctor.observed import Observed
    from ebbtide.profile.models import Profile
    from ebbtide.spec.inference import Inference

FINE, PROBLEMS, USAGE = 0, 1, 2
HEADER = (
    "# Written by ebbtide doctor --write-profile from what the cluster is. What it cannot see is as Ebbtide's defaults\n"
    "# have it: quotas of projects (projects.known), who may call (access), rules for pods (pods).\n"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("files", nargs="*", metavar="SPEC", help="specs that shall run there; a file, a folder, or -")
    add_profile(parser)
    connection.add_connection(parser)
    parser.add_argument("--fix", action="store_true", help="apply the patches, after a question")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--write-profile", metavar="FILE", help="write the profile of this cluster, and end")
    connection.add_format(parser, "text", "json", "yaml", "name")


def run(options: argparse.Namespace) -> int:
    """Look, tell, and mend if that is asked for."""
    if options.write_profile:
        return connection.on_cluster(options, lambda cluster: _write(cluster, options.write_profile))
    profile = profile_or_problems(options.profile)
    if profile is None:
        return PROBLEMS
    specs: list[Inference] = []
    for loaded in documents(sources(options.files), profile):
        show(problem for problem in loaded.problems if problem.severity == "error")
        if exit_code(loaded.problems) or loaded.inference is None:
            return PROBLEMS
        specs.append(loaded.inference)
    given = specs if options.files else None
    return connection.on_cluster(options, lambda cluster: _examine(cluster, profile, given, options))


def _write(cluster: Cluster, file: str) -> int:
    from ebbtide import manifests  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.doctor.checks import observed_profile  # noqa: PLC0415 - as above
    from ebbtide.documents import profiles  # noqa: PLC0415 - a command's parser must not load it

    data = observed_profile(cluster)
    made, problems = profiles.validate(data)
    show(problems)
    if made is None:
        return PROBLEMS
    text = HEADER + manifests.write_one(data)
    if file == "-":
        sys.stdout.write(text)
        return FINE
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        terminal.tell(f"error: {file} cannot be written: {(error.strerror or 'unknown reason').lower()}")
        return USAGE
    terminal.tell(f"{file}: what this cluster is; ebbtide doctor --profile {file} compares")
    return FINE


def _examine(cluster: Cluster, profile: Profile, specs: Sequence[Inference] | None, options: argparse.Namespace) -> int:
    from ebbtide.cluster.doctor.checks import examine  # noqa: PLC0415 - as in _write
    from ebbtide.cluster.doctor.observed import observe  # noqa: PLC0415 - as in _write

    seen = observe(cluster)
    found = examine(cluster, profile, specs, seen)
    patches: list[Patch] = []
    for finding in found:
        if finding.patch is not None and finding.patch not in patches:
            patches.append(finding.patch)
    mending = bool(options.fix and patches)
    if not mending or options.output == "text":
        _tell(found, seen, profile, options.output)
    if mending:
        code = _mend(cluster, patches, yes=options.yes)
        if code != FINE:
            return code
        found = examine(cluster, profile, specs)
        terminal.tell("afterwards:")
        _tell(found, observe(cluster), profile, options.output)
    elif options.fix:
        terminal.tell("there is nothing that a patch would mend")
    return PROBLEMS if any(finding.severity == "error" for finding in found) else FINE


def _mend(cluster: Cluster, patches: Sequence[Patch], *, yes: bool) -> int:
    """Try all patches, ask, and apply them in order."""
    from ebbtide.cluster.doctor.checks import mend  # noqa: PLC0415 - as in _write

    for patch in patches:
        mend(cluster, patch, dry_run=True)
    terminal.tell("".join(f"  {printable(str(patch))}\n" for patch in patches).rstrip("\n"))
    count = len(patches)
    if not terminal.confirmed(
        f"Apply {'this patch' if count == 1 else f'these {count} patches'} to the cluster?", yes=yes
    ):
        return USAGE
    for patch in patches:
        mend(cluster, patch)
        terminal.tell(
            f"{DONE[patch.action]} {patch.kind.name} {patch.namespace}{'/' if patch.namespace else ''}{patch.name}"
        )
    return FINE


DONE = {"merge": "patched", "create": "created", "delete": "deleted"}


def _tell(found: Sequence[Finding], seen: Observed, profile: Profile, form: str) -> None:
    if form in {"json", "yaml"}:
        terminal.answer([*found], form)
    elif form == "name":
        sys.stdout.writelines(f"{finding.code}\n" for finding in found)
    else:
        sys.stdout.write(_head(seen, profile, found))
        sys.stdout.writelines(map(_text, found))
    sys.stdout.flush()


def _head(seen: Observed, profile: Profile, found: Sequence[Finding]) -> str:
    parts = [f"Kubernetes {seen.kubernetes or '?'}"]
    parts += [f"Knative {seen.knative or 'of an unknown version'}"] if "knative" in seen.served else []
    parts += [f"KServe {seen.kserve or 'of an unknown version'}"] if "kserve" in seen.served else []
    parts += [counted(len(seen.nodes), "node")] if seen.nodes is not None else []
    errors = sum(finding.severity == "error" for finding in found)
    warnings = len(found) - errors
    count = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    said = count if found else "nothing to complain of"
    return f"{', '.join(parts)}; against profile {profile.metadata.name}: {said}\n"


def _text(finding: Finding) -> str:
    colour = COLOURS if coloured(sys.stdout) else dict.fromkeys(COLOURS, "")
    head = f"{colour[finding.severity]}{finding.severity}{colour['end']} {colour['bold']}{finding.code}{colour['end']}"
    lines = [
        f"{head} {printable(finding.what)}",
        f"    {printable(finding.means)}",
        f"    {colour['fix']}fix:{colour['end']} {printable(finding.fix)}",
    ]
    if finding.patch is not None:
        lines.append(f"    {colour['fix']}--fix:{colour['end']} {printable(str(finding.patch))}")
    return "\n".join(lines) + "\n"
