"""Checks of the installed components: versions, Knative and KServe settings, metrics adapters, Ebbtide's controller."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.client.protocol import CONFIG_MAP, KSERVE
from ebbtide.cluster.doctor import observed as of_cluster
from ebbtide.cluster.doctor.findings import Check, Difference, FixPatch
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE, parse_timestamp
from ebbtide.core.base import keys
from ebbtide.core.base.metrics import find_resource_metric
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.objects import with_values
from ebbtide.core.translation.pods import merge_patches
from ebbtide.core.translation.serving.knative import ALLOWED, check_flags
from ebbtide.core.translation.serving.kserve import MODES
from ebbtide.core.translation.translate import make_patches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebbtide.cluster.doctor.findings import SpecRequirements
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.profile.models import ProfileSpec
    from ebbtide.core.translation.objects import Object
    from ebbtide.core.translation.plan import Plan


#: Names that a finding lists.
MAX_NAMES: Final = 5
#: The first Knative with the key ``pod-is-always-schedulable`` of config-deployment.
SCHEDULABLE_SINCE: Final = (1, 21)
#: A KServe that is known to accept a status with a former name of the deployment mode.
FORMER_NAMES_ACCEPTED_SINCE: Final = (0, 20)


def _make_map_patch(part: str, data: Mapping[str, str]) -> FixPatch:
    return FixPatch("merge", CONFIG_MAP, f"config-{part}", KNATIVE_NAMESPACE, {"data": dict(data)})


def _find_unread(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    """Yield what the other checks could not read."""
    if observed.unread:
        yield Difference(f"forbidden: your account cannot read {', '.join(observed.unread)}")


def _check_specs(_: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    for name, problem in requirements.refused:
        yield Difference(f"{name} does not translate for profile {requirements.profile.metadata.name}: {problem}")


def _check_versions(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    spec = requirements.profile.spec
    rows = (
        ("Kubernetes", "kubernetes.version", spec.kubernetes.version, observed.kubernetes),
        ("Knative", "knative.version", spec.knative.version, observed.knative),
        ("KServe", "kserve.version", spec.kserve.version, observed.kserve),
    )
    for name, field, declared, live in rows:
        if live and of_cluster.minor_version(declared) != of_cluster.minor_version(live):
            yield Difference(
                f"the cluster runs {name} {live}, but the profile has {declared}",
                f"set {field}: {of_cluster.minor_version(live)} in the profile",
            )


def _check_installed(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    spec = requirements.profile.spec
    modes = {plan.mode for plan in requirements.plans}
    needed = {
        "knative": any(mode.revisions for mode in modes),
        "kserve": any(mode.kserve for mode in modes),
        "llm": any(mode.kserve == "LLM" for mode in modes),
    }
    has_llm = spec.kserve.installed and spec.kserve.llm != "none"
    for name, group, declared, absent, present in (
        ("Knative Serving", "knative", spec.knative.installed, "knative.installed: false", "knative.installed: true"),
        ("KServe", "kserve", spec.kserve.installed, "kserve.installed: false", "kserve.installed: true"),
        ("LLMInferenceService", "llm", has_llm, "kserve.llm: none", f"kserve.llm: {observed.llm}"),
    ):
        served = observed.serves(group)
        if declared and not served and (requirements.specs is None or needed[group]):
            yield Difference(
                f"{name} is not installed, but the profile says that it is",
                f"install {name}, or set {absent} in the profile",
            )
        if served and not declared:
            yield Difference(
                f"{name} is installed, but the profile says that it is not",
                f"set {present} in the profile",
                severity="warning",
            )


def _check_controllers(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    rows: list[tuple[str, str, tuple[str, ...]]] = [("Knative", KNATIVE_NAMESPACE, of_cluster.CONTROLLERS)]
    if requirements.profile.spec.kserve.installed:
        rows.append(("KServe", of_cluster.KSERVE_NAMESPACE, (of_cluster.KSERVE_CONTROLLER,)))
    for owner, namespace, controllers in rows:
        running = observed.list_running(namespace) if observed.serves(of_cluster.COMPONENTS[namespace]) else None
        for name in controllers:
            if running is not None and name not in running:
                yield Difference(
                    f"{owner}'s {name} is not running",
                    f"find the cause with kubectl describe deployment {name} -n {namespace}",
                )


def _check_features(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    if observed.read_map("config-features") is None:
        return
    live = of_cluster.effective_settings(observed, "features")
    for flag, declared in sorted(requirements.profile.spec.knative.features.items()):
        if flag not in of_cluster.MAPS["features"] or declared not in ALLOWED or live[flag] == declared:
            continue
        if live[flag] in ALLOWED and declared == "allowed":
            continue
        rejected = _rejected_workloads(requirements, flag, live[flag])
        needed = f", which {', '.join(rejected)} {'needs' if len(rejected) == 1 else 'need'}" if rejected else ""
        yield Difference(
            f"{flag} is {live[flag]} in config-features, but the profile has {declared}{needed}",
            f"set {flag}: {declared} in config-features",
            _make_map_patch("features", {flag: declared}),
            "warning" if requirements.specs is not None and not rejected else None,
        )


def _rejected_workloads(requirements: SpecRequirements, flag: str, value: str) -> list[str]:
    """Return the names of the workloads that are rejected if a feature flag has this value."""
    changed = deepcopy(requirements.profile.spec)
    changed.knative.features[flag] = value
    rejected = []
    for plan in requirements.plans:
        if plan.mode.revisions:
            pod = merge_patches(make_patches(plan))
            other = replace(plan, profile=with_values(plan.profile, spec=changed))
            if {*check_flags(other, pod)} - {*check_flags(plan, pod)}:
                rejected.append(plan.name)
    return rejected


def _check_settings(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    knative = requirements.profile.spec.knative
    for part in of_cluster.MAPS:
        live = observed.read_map(f"config-{part}")
        if live is None:
            continue
        declared: dict[str, str] = getattr(knative, part)
        for key, value in sorted(declared.items()) if part != "features" else ():
            actual = live.get(key, of_cluster.MAPS[part].get(key, ""))
            if not of_cluster.is_equivalent(actual, value):
                yield Difference(
                    f"{key} is {actual or 'not set'} in config-{part}, but the profile has {value}",
                    f"set {key}: {value} in config-{part}, or "
                    f"{f'{key}: {actual}' if actual else f'remove {key}'} in the profile's knative.{part}",
                    _make_map_patch(part, {key: value}),
                )
        for key, value in of_cluster.changed_settings(observed, part).items():
            if key not in declared:
                yield Difference(
                    f"{key} is {value} in config-{part}, but the profile does not set it",
                    f"set {key}: {value} in the profile's knative.{part}",
                )
    domains = [name for name in observed.read_map("config-domain") or {} if not name.startswith("_")]
    if domains and requirements.profile.spec.domain not in domains:
        yield Difference(
            f"services are published under {', '.join(domains)}, but the profile has {requirements.profile.spec.domain}",
            f"set domain: {domains[0]} in the profile",
        )


def _check_node_start(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Report that Knative does not wait for nodes that an autoscaler starts.

    Upstream: knative.dev/serving v0.48.1 and v0.51.0 pkg/reconciler/revision/reconcile_resources.go; v0.44.0 does not have the key.
    """
    spec, key = requirements.profile.spec, "pod-is-always-schedulable"
    pools = [pool.name for pool in spec.node_pools if pool.node_autoscaler is not None]
    live = observed.read_map("config-deployment")
    if not pools or live is None or live.get(key) == "true" or parse_version(spec.knative.version) < SCHEDULABLE_SINCE:
        return
    yield Difference(
        f"{key} is not true in config-deployment, but an autoscaler starts the nodes of {', '.join(pools)}",
        patch=_make_map_patch("deployment", {key: "true"}),
    )


def _check_leaders(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    running = [lease.namespace for lease in observed.controllers or () if lease.runs]
    if len(running) > 1:
        yield Difference(f"controllers of Ebbtide lead in {len(running)} namespaces: {', '.join(running)}")


def _find_missing_controller(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    names = [plan.name for plan in requirements.plans if _by_controller(plan)]
    expected = names or requirements.profile.spec.autoscaling.controller
    leases = observed.controllers
    if leases is None or not expected or any(lease.runs for lease in leases):
        return
    needs = "needs" if len(names) == 1 else "need"
    why = f"{', '.join(names)} {needs} it" if names else "the profile says that it runs"
    yield Difference(
        f"Ebbtide's controller {of_cluster.describe_stopped_controller(leases)}, but {why}",
        severity=None if names else "warning",
    )


def _check_definition(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    """Yield custom resources without a controller."""
    resources, leases = observed.list_resources(), observed.controllers
    if resources is None or leases is None or any(lease.runs for lease in leases):
        return
    waiting = [*filter(_waits, resources)]
    held = f", and {_list_resources(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for it" if waiting else ""
    yield Difference(
        f"custom resources are installed, but Ebbtide's controller {of_cluster.describe_stopped_controller(leases)}{held}",
        severity=None if waiting else "warning",
    )


def _check_resources(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Difference]:
    """Yield custom resources that a running controller does not apply."""
    waiting = [*filter(_waits, observed.list_resources() or ())]
    if waiting and any(lease.runs for lease in observed.controllers or ()):
        yield Difference(f"the controller does not apply {_list_resources(waiting)}")


def _list_resources(resources: Sequence[Object]) -> str:
    names = [f"{row['metadata']['namespace']}/{row['metadata']['name']}" for row in resources[:MAX_NAMES]]
    return ", ".join(names) + (" and others" if len(resources) > MAX_NAMES else "")


def _waits(resource: Object) -> bool:
    """Return whether a resource has waited for the controller longer than a running one takes."""
    metadata = resource["metadata"]
    if get_at(resource, "status", "observedGeneration") == metadata.get("generation", 1):
        return False
    edits = [row.get("time") for row in metadata.get("managedFields") or () if not row.get("subresource")]
    changed = max([parse_timestamp(metadata.get("creationTimestamp")), *map(parse_timestamp, edits)])
    return datetime.now(UTC).timestamp() - changed >= of_cluster.STALE_SECONDS


def _check_hpa_extension(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    declared = requirements.profile.spec.knative.hpa
    deployments = observed.list_running(KNATIVE_NAMESPACE)
    running = of_cluster.HPA_EXTENSION in (deployments or ())
    if deployments is not None and declared != running:
        needed = requirements.specs is None or any(plan.scaling.scaler == "knative-hpa" for plan in requirements.plans)
        yield Difference(
            f"Knative's HPA extension {'is' if running else 'is not'} running, but the profile says "
            f"that it {'is not' if running else 'is'}",
            severity=None if declared and needed else "warning",
        )


def _check_metrics(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    metrics, plans = requirements.profile.spec.metrics, requirements.plans
    needed = requirements.specs is None or any(_by_metrics(plan) for plan in plans)
    by_hpa = requirements.specs is None or any(plan.scaling.scaler == "knative-hpa" for plan in plans)
    for what, missing, necessary in (
        (
            "the API metrics.k8s.io is unavailable, but the profile says that metrics-server runs",
            not requirements.applied and metrics.metrics_server and not observed.serves("metrics-server"),
            by_hpa,
        ),
        (
            "the API custom.metrics.k8s.io is unavailable, but the profile says that prometheus-adapter runs",
            _uses_adapter(requirements.profile.spec) and observed.metrics is None,
            needed,
        ),
        (
            "KEDA is not installed, but the profile names it as the metrics adapter",
            metrics.adapter == "keda" and not observed.serves("keda"),
            needed,
        ),
    ):
        if missing:
            yield Difference(what, severity=None if necessary else "warning")


def _check_served_metrics(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    served = observed.metrics
    for plan in requirements.plans if served is not None else ():
        name = plan.scaling.metric_name
        by_hpa = plan.scaling.scaler in {"knative-hpa", "own-hpa"}
        if by_hpa and not find_resource_metric(name) and name not in (served or ()):
            yield Difference(
                f"{plan.name} scales on the pod metric {name}, which custom.metrics.k8s.io does not serve now"
            )


def _by_metrics(plan: Plan) -> bool:
    return plan.scaling.scaler in {"knative-hpa", "own-hpa", "keda"}


def _by_custom_metrics(plan: Plan) -> bool:
    return _by_metrics(plan) and not find_resource_metric(plan.scaling.metric_name)


def _by_controller(plan: Plan) -> bool:
    return plan.scaling.scaler == "controller"


def _format_value(value: bool | str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return value if isinstance(value, str) else str(value).lower()


def _check_modes(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    """Report InferenceServices whose every update KServe's webhook rejects after an upgrade, by their deployment mode.

    Upstream: kserve v0.20.0 pkg/apis/serving/v1beta1/inference_service_defaults.go (the webhook writes the default mode Standard
    into an object without the annotation, and replaces former names) and inference_service_validation.go
    (validateDeploymentMode compares the annotation with the status; kserve/kserve#5427 made it accept a former name there).
    """
    version = parse_version(requirements.profile.spec.kserve.version)
    default = observed.read_kserve("deploy").get("defaultDeploymentMode", "")
    (knative, former), standard = MODES["kserve"], MODES["kserve-standard"]
    renamed, moved = [], []
    for obj in observed.list_objects(KSERVE) or ():
        name = f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        status = get_at(obj, "status", "deploymentMode", default="")
        if status in {former, standard[1]} and version < FORMER_NAMES_ACCEPTED_SINCE:
            renamed.append(name)
        elif status in {knative, former} and default in standard and not _has_mode(obj):
            moved.append(name)
    if renamed:
        yield Difference(
            f"the status of {_list_names(renamed)} has a deployment mode by its former name", severity="warning"
        )
    if moved:
        yield Difference(
            f"the default deployment mode of KServe is {default}, but {_list_names(moved)} runs in mode Knative without the annotation",
            f"annotate each with {keys.DEPLOYMENT_MODE}: Knative",
        )


def _has_mode(obj: Object) -> bool:
    return keys.DEPLOYMENT_MODE in get_at(obj, "metadata", "annotations", default={})


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _check_annotations(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    declared = requirements.profile.spec.kserve
    if observed.read_map(of_cluster.KSERVE_MAP, of_cluster.KSERVE_NAMESPACE) is None:
        return
    unlisted = [name for name in declared.annotation_disallow_list if name not in observed.disallowed]
    if unlisted:
        settings = {
            **observed.read_kserve("inferenceService"),
            "serviceAnnotationDisallowedList": [*observed.disallowed, *unlisted],
        }
        body = {"data": {"inferenceService": json.dumps(settings, indent=2)}}
        yield Difference(
            f"KServe's serviceAnnotationDisallowedList does not contain {', '.join(unlisted)}, but the profile lists "
            f"{'it' if len(unlisted) == 1 else 'them'}",
            f"add {', '.join(unlisted)} to serviceAnnotationDisallowedList in inferenceService of {of_cluster.KSERVE_MAP}",
            FixPatch("merge", CONFIG_MAP, of_cluster.KSERVE_MAP, of_cluster.KSERVE_NAMESPACE, body),
        )
    dropped = [name for name in (keys.SPEC, keys.SCALE) if name in observed.disallowed]
    undeclared = [name for name in dropped if name not in declared.annotation_disallow_list]
    if undeclared:
        yield Difference(
            f"KServe does not copy {', '.join(undeclared)} to pods, but the profile does not list "
            f"{'it' if len(undeclared) == 1 else 'them'}",
            f"add {', '.join(undeclared)} to the profile's kserve.annotationDisallowList",
            severity="warning",
        )


def _check_kserve(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    declared = requirements.profile.spec.kserve
    if observed.read_map(of_cluster.KSERVE_MAP, of_cluster.KSERVE_NAMESPACE) is None:
        return
    for field, in_profile, live in (
        ("httpRouteTimeouts", declared.http_route_timeouts, observed.http_route_timeouts),
        ("ociModels", declared.oci_models, observed.oci_models),
        ("localModelNodeGroups", sorted(declared.local_model_node_groups), observed.model_node_groups),
    ):
        if live is not None and live != in_profile:
            yield Difference(
                f"kserve.{field} of the profile is {_format_value(in_profile)}, but {of_cluster.KSERVE_MAP} and its objects say "
                f"{_format_value(live)}",
                f"set kserve.{field}: {_format_value(live)} in the profile",
            )


def _check_runtimes(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Difference]:
    if observed.read_map(of_cluster.KSERVE_MAP, of_cluster.KSERVE_NAMESPACE) is None or observed.runtimes is None:
        return
    missing = [name for name in requirements.profile.spec.kserve.runtimes if name not in observed.runtimes]
    if missing:
        yield Difference(
            f"serving runtime{'' if len(missing) == 1 else 's'} not found: {', '.join(missing)}; the profile lists "
            f"{'it' if len(missing) == 1 else 'them'}"
        )


def _has_kserve(profile: ProfileSpec) -> bool:
    return profile.kserve.installed


def _uses_adapter(profile: ProfileSpec) -> bool:
    return profile.metrics.adapter == "prometheus-adapter"


CHECKS: Final = (
    Check("DOC025", _check_specs),
    Check("DOC002", _check_versions, "warning"),
    Check("DOC003", _check_installed),
    Check("DOC004", _check_controllers),
    Check("DOC005", _check_features),
    Check("DOC006", _check_settings, "warning"),
    Check("DOC204", _check_node_start, "warning"),
    Check("DOC070", _check_leaders, concerns=_by_controller),
    Check("DOC071", _find_missing_controller, concerns=_by_controller),
    Check("DOC189", _check_definition),
    Check("DOC190", _check_resources),
    Check("DOC007", _check_hpa_extension),
    Check("DOC008", _check_metrics, concerns=_by_custom_metrics),
    Check("DOC009", _check_served_metrics, "warning", needs=_uses_adapter, concerns=_by_custom_metrics),
    Check("DOC205", _check_modes, needs=_has_kserve),
    Check("DOC010", _check_annotations, needs=_has_kserve),
    Check("DOC057", _check_kserve, "warning", needs=_has_kserve),
    Check("DOC011", _check_runtimes),
)
#: A check that runs after all others, which know only then what they could not read.
UNREAD: Final = Check("DOC001", _find_unread, "warning")
