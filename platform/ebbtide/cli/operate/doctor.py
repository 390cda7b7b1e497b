"""``ebbtide doctor``: check a cluster against a profile and specs, and apply patches that fix the findings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import common, connection, terminal
from ebbtide.cli.base.files import replace_file
from ebbtide.cli.base.options import LIVE_PROFILE, YES, Options, make_option, make_output_option, make_switch
from ebbtide.cli.base.streams import get_style_codes
from ebbtide.core import manifests
from ebbtide.core.base.prose import count_noun, make_printable
from ebbtide.core.documents import profiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.cluster.doctor.findings import Finding, FixPatch
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.spec.inference import Inference

FINE, PROBLEMS = 0, 1
HEADER = (
    "# Written by ebbtide doctor --write-profile from the state of the cluster. Settings that it cannot observe have\n"
    "# Ebbtide's defaults: project quotas without a KAI queue (projects.known), request authorization (access), pod rules (pods).\n"
)
OPTIONS: Final = (
    make_option(
        "files", nargs="*", metavar="SPEC", help="Specs to run on the cluster: a file, a directory, or - for stdin"
    ),
    LIVE_PROFILE,
    *connection.PLACE,
    make_switch("--fix", help="Apply the suggested patches after confirmation"),
    YES,
    make_option(
        "--write-profile", metavar="FILE", help="Write a profile of this cluster to FILE (- for stdout) and exit"
    ),
    make_output_option("text", "json", "yaml", "name"),
)


def run(options: Options) -> int:
    if options.write_profile:
        return connection.run_on_cluster(options, lambda cluster: _write_profile(cluster, options.write_profile))
    return _examine_cluster(options)


def _write_profile(cluster: connection.Cluster, file: str) -> int:
    from ebbtide.cluster.doctor.observed import ObservedCluster, make_observed_profile

    data = make_observed_profile(ObservedCluster(cluster))
    profile, problems = profiles.validate_profile_data(data)
    common.print_problems(problems)
    if profile is None:
        return PROBLEMS
    text = HEADER + manifests.write_document(data)
    if file == "-":
        sys.stdout.write(text)
        return FINE
    try:
        replace_file(file, text.encode())
    except OSError as error:
        terminal.exit_with_message(f"error: cannot write {file}: {(error.strerror or 'unknown error').lower()}")
    terminal.write_stderr(
        f"Wrote the cluster's profile to {file}. To check the cluster against it, run ebbtide doctor --profile {file}"
    )
    return FINE


@connection.profile_command
def _examine_cluster(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    from ebbtide.cluster.doctor.checks import examine_cluster
    from ebbtide.cluster.doctor.observed import ObservedCluster

    specs: list[Inference] = []
    for loaded in common.load_documents(common.read_sources(options.files), profile) if options.files else ():
        common.print_problems(loaded.problems, quiet=True)
        if common.exit_code(loaded.problems) or loaded.inference is None:
            return PROBLEMS
        specs.append(loaded.inference)
    examined = specs if options.files else None
    observed = ObservedCluster(cluster)
    selected = connection.resolve_namespace(cluster, options) if options.project or options.namespace else ""
    findings = examine_cluster(cluster, profile, examined, observed, namespace=selected)
    patches: list[FixPatch] = []
    for finding in findings:
        if finding.patch is not None and finding.patch not in patches:
            patches.append(finding.patch)
    apply_patches = bool(options.fix and patches)
    if not apply_patches or options.output == "text":
        _print_findings(findings, observed, profile, options.output)
    if apply_patches:
        code = _apply_patches(cluster, patches, yes=options.yes)
        if code != FINE:
            return code
        printed = findings if options.output == "text" else []
        observed = ObservedCluster(cluster)
        findings = examine_cluster(cluster, profile, examined, observed, namespace=selected)
        terminal.write_stderr("After the fix:")
        _print_findings(findings, observed, profile, options.output, printed)
    elif options.fix:
        terminal.write_stderr("No finding can be fixed with a patch.")
    return PROBLEMS if any(finding.severity == "error" for finding in findings) else FINE


def _apply_patches(cluster: connection.Cluster, patches: Sequence[FixPatch], *, yes: bool) -> int:
    """Dry-run every patch, ask for confirmation, then apply the patches in order."""
    from ebbtide.cluster.doctor.checks import apply_fix_patch

    for patch in patches:
        apply_fix_patch(cluster, patch, dry_run=True)
    terminal.write_stderr("".join(f"  {make_printable(str(patch))}\n" for patch in patches).rstrip("\n"))
    count = len(patches)
    if not terminal.ask_confirmation(
        f"Apply {'this patch' if count == 1 else f'these {count} patches'} to the cluster?", yes=yes
    ):
        return terminal.USAGE
    for patch in patches:
        apply_fix_patch(cluster, patch)
        terminal.write_stderr(
            f"{ACTION_LABELS[patch.action]} {patch.kind.name} {patch.namespace}{'/' if patch.namespace else ''}{patch.name}"
        )
    return FINE


ACTION_LABELS = {"merge": "patched", "create": "created"}


def _print_findings(
    findings: Sequence[Finding],
    observed: ObservedCluster,
    profile: Profile,
    output_format: str,
    printed: Sequence[Finding] = (),
) -> None:
    """Print findings. Text repeats only the first line of a finding that is also in ``printed``."""
    if output_format in {"json", "yaml"}:
        terminal.write_data([*findings], output_format)
    elif output_format == "name":
        sys.stdout.writelines(f"{finding.code}\n" for finding in findings)
    else:
        sys.stdout.write(_format_header(observed, profile, findings))
        for finding in findings:
            lines = common.format_report(finding, finding.what, finding.means, sys.stdout)
            if finding.patch is not None:
                colors = get_style_codes(sys.stdout)
                lines.append(f"    {colors['fix']}--fix:{colors['end']} {make_printable(str(finding.patch))}\n")
            sys.stdout.writelines(lines[:1] if finding in printed else lines)
    sys.stdout.flush()


def _format_header(observed: ObservedCluster, profile: Profile, findings: Sequence[Finding]) -> str:
    from ebbtide.cluster.client.protocol import NODE

    parts = [f"Kubernetes {observed.kubernetes or '(unknown version)'}"]
    parts += [f"Knative {observed.knative or '(unknown version)'}"] if observed.serves("knative") else []
    parts += [f"KServe {observed.kserve or '(unknown version)'}"] if observed.serves("kserve") else []
    nodes = observed.list_objects(NODE)
    parts += [count_noun(len(nodes), "node")] if nodes is not None else []
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    count = f"{count_noun(errors, 'error')}, {count_noun(warnings, 'warning')}"
    summary = count if findings else "no problems found"
    return f"{', '.join(parts)}; profile {profile.metadata.name}: {summary}\n"
