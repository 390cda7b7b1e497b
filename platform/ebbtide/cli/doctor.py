"""``ebbtide doctor``: what the cluster has and lacks, for a profile and for specs, and the patch that mends it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ebbtide.base.prose import counted, printable
from ebbtide.cli import common, connection, terminal
from ebbtide.cli.options import PROFILE, YES, Options, option, output, switch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.cluster.doctor.findings import Finding, Patch
    from ebbtide.cluster.doctor.observed import Observed
    from ebbtide.profile.models import Profile
    from ebbtide.spec.inference import Inference

FINE, PROBLEMS, USAGE = 0, 1, 2
HEADER = (
    "# Written by ebbtide doctor --write-profile from what the cluster is. What it cannot see is as Ebbtide's defaults\n"
    "# have it: quotas of projects (projects.known), who may call (access), rules for pods (pods).\n"
)
OPTIONS: Final = (
    option("files", nargs="*", metavar="SPEC", help="specs that shall run there; a file, a folder, or -"),
    PROFILE,
    *connection.CONNECTION,
    switch("--fix", help="apply the patches, after a question"),
    YES,
    option("--write-profile", metavar="FILE", help="write the profile of this cluster, and end"),
    output("text", "json", "yaml", "name"),
)


def run(options: Options) -> int:
    if options.write_profile:
        return connection.on_cluster(options, lambda cluster: _write(cluster, options.write_profile))
    profile = common.read_profile(options.profile)
    specs: list[Inference] = []
    for loaded in common.documents(common.sources(options.files), profile):
        common.show(problem for problem in loaded.problems if problem.severity == "error")
        if common.exit_code(loaded.problems) or loaded.inference is None:
            return PROBLEMS
        specs.append(loaded.inference)
    given = specs if options.files else None
    return connection.on_cluster(options, lambda cluster: _examine(cluster, profile, given, options))


def _write(cluster: connection.Cluster, file: str) -> int:
    from ebbtide import manifests  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.doctor.checks import observed_profile  # noqa: PLC0415 - as above
    from ebbtide.documents import profiles  # noqa: PLC0415 - a command's parser must not load it

    data = observed_profile(cluster)
    made, problems = profiles.validate(data)
    common.show(problems)
    if made is None:
        return PROBLEMS
    text = HEADER + manifests.write_one(data)
    if file == "-":
        sys.stdout.write(text)
        return FINE
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        terminal.end(f"error: {file} cannot be written: {(error.strerror or 'unknown reason').lower()}", USAGE)
    terminal.tell(f"{file}: what this cluster is; ebbtide doctor --profile {file} compares")
    return FINE


def _examine(cluster: connection.Cluster, profile: Profile, specs: Sequence[Inference] | None, options: Options) -> int:
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


def _mend(cluster: connection.Cluster, patches: Sequence[Patch], *, yes: bool) -> int:
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
    colour = common.colours(sys.stdout)
    head = f"{colour[finding.severity]}{finding.severity}{colour['end']} {colour['bold']}{finding.code}{colour['end']}"
    lines = [
        f"{head} {printable(finding.what)}",
        f"    {printable(finding.means)}",
        f"    {colour['fix']}fix:{colour['end']} {printable(finding.fix)}",
    ]
    if finding.patch is not None:
        lines.append(f"    {colour['fix']}--fix:{colour['end']} {printable(str(finding.patch))}")
    return "\n".join(lines) + "\n"
