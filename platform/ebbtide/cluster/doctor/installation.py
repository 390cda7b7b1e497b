"""Checks of the installed components: versions, Knative and KServe settings, metrics adapters, Ebbtide's controller."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.client.protocol import CONFIG_MAP, KSERVE
from ebbtide.cluster.doctor import observed as of_cluster
from ebbtide.cluster.doctor.findings import FixPatch, make_error_finding, make_warning_finding
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

    from ebbtide.cluster.doctor.findings import Finding, SpecRequirements
    from ebbtide.cluster.doctor.observed import ObservedCluster
    from ebbtide.core.translation.objects import Object


#: Names that a finding lists.
MAX_NAMES: Final = 5
#: The first Knative with the key ``pod-is-always-schedulable`` of config-deployment.
SCHEDULABLE_SINCE: Final = (1, 21)
#: A KServe that is known to accept a status with a former name of the deployment mode.
FORMER_NAMES_ACCEPTED_SINCE: Final = (0, 20)


def _make_map_patch(part: str, data: Mapping[str, str]) -> FixPatch:
    return FixPatch("merge", CONFIG_MAP, f"config-{part}", KNATIVE_NAMESPACE, {"data": dict(data)})


def find_unread(observed: ObservedCluster) -> Iterator[Finding]:
    """Yield what the other checks could not read."""
    if observed.unread:
        yield make_warning_finding(
            "DOC001",
            f"forbidden: your account cannot read {', '.join(observed.unread)}",
            "checks that depend on them were skipped",
            "ask a cluster administrator to run doctor, or to bind your account to the ClusterRole ebbtide-observer "
            "(kustomize/roles)",
        )


def _check_specs(_: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    for name, problem in requirements.refused:
        yield make_error_finding(
            "DOC025",
            f"{name} does not translate for profile {requirements.profile.metadata.name}: {problem}",
            "its requirements on the cluster are unknown and were not checked",
            "fix the spec (see ebbtide check), then run doctor again",
        )


def _check_versions(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    spec = requirements.profile.spec
    rows = (
        ("Kubernetes", "kubernetes.version", spec.kubernetes.version, observed.kubernetes),
        ("Knative", "knative.version", spec.knative.version, observed.knative),
        ("KServe", "kserve.version", spec.kserve.version, observed.kserve),
    )
    for name, field, declared, live in rows:
        if live and of_cluster.minor_version(declared) != of_cluster.minor_version(live):
            yield make_warning_finding(
                "DOC002",
                f"the cluster runs {name} {live}, but the profile has {declared}",
                "field names, deployment modes and metric names depend on the version",
                f"set {field}: {of_cluster.minor_version(live)} in the profile",
            )


def _check_installed(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
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
            yield make_error_finding(
                "DOC003",
                f"{name} is not installed, but the profile says that it is",
                "the API server rejects its objects as an unknown kind",
                f"install {name}, or set {absent} in the profile",
            )
        if served and not declared:
            yield make_warning_finding(
                "DOC003",
                f"{name} is installed, but the profile says that it is not",
                "Ebbtide rejects specs that need it, although they would work",
                f"set {present} in the profile",
            )
    rows = [("Knative", KNATIVE_NAMESPACE, of_cluster.CONTROLLERS)]
    if spec.kserve.installed:
        rows.append(("KServe", of_cluster.KSERVE_NAMESPACE, of_cluster.KSERVE_CONTROLLERS))
    for owner, namespace, controllers in rows:
        running = observed.list_running(namespace) if observed.serves(of_cluster.COMPONENTS[namespace]) else None
        for name, effect in controllers.items():
            if running is not None and name not in running:
                yield make_error_finding(
                    "DOC004",
                    f"{owner}'s {name} is not running",
                    effect,
                    f"find the cause with kubectl describe deployment {name} -n {namespace}",
                )


def _check_features(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    if observed.read_map("config-features") is None:
        return
    live = of_cluster.effective_settings(observed, "features")
    for flag, declared in sorted(requirements.profile.spec.knative.features.items()):
        if flag not in of_cluster.MAPS["features"] or declared not in ALLOWED or live[flag] == declared:
            continue
        if live[flag] in ALLOWED and declared == "allowed":
            continue
        rejected = _rejected_workloads(requirements, flag, live[flag])
        make = make_warning_finding if requirements.specs is not None and not rejected else make_error_finding
        affected = f" ({', '.join(rejected)})" if rejected else ""
        yield make(
            "DOC005",
            f"{flag} is {live[flag]} in config-features, but the profile has {declared}",
            f"Knative's webhook rejects services that need it{affected}",
            f"set {flag}: {declared} in config-features",
            _make_map_patch("features", {flag: declared}),
        )
    for flag, value in of_cluster.changed_settings(observed, "features").items():
        if flag not in requirements.profile.spec.knative.features:
            yield make_warning_finding(
                "DOC006",
                f"{flag} is {value} in config-features, but the profile does not set it",
                "Ebbtide rejects specs that need it, although they would work"
                if value in ALLOWED
                else "Knative's webhook rejects services that need it",
                f"set {flag}: {value} in the profile's knative.features",
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


def _check_settings(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    knative = requirements.profile.spec.knative
    for part in of_cluster.MAPS:
        live = observed.read_map(f"config-{part}")
        if part == "features" or live is None:
            continue
        declared: dict[str, str] = getattr(knative, part)
        for key, value in sorted(declared.items()):
            actual = live.get(key, of_cluster.MAPS[part].get(key, ""))
            if not of_cluster.is_equivalent(actual, value):
                yield make_warning_finding(
                    "DOC006",
                    f"{key} is {actual or 'not set'} in config-{part}, but the profile has {value}",
                    "Ebbtide calculates with the profile's value, so its answers are wrong for this cluster",
                    f"set {key}: {value} in config-{part}, or "
                    f"{f'{key}: {actual}' if actual else f'remove {key}'} in the profile's knative.{part}",
                    _make_map_patch(part, {key: value}),
                )
        for key, value in of_cluster.changed_settings(observed, part).items():
            if key not in declared:
                yield make_warning_finding(
                    "DOC006",
                    f"{key} is {value} in config-{part}, but the profile does not set it",
                    f"Ebbtide calculates with Knative's default ({of_cluster.MAPS[part][key] or 'not set'}) instead",
                    f"set {key}: {value} in the profile's knative.{part}",
                )
    domains = [name for name in observed.read_map("config-domain") or {} if not name.startswith("_")]
    if domains and requirements.profile.spec.domain not in domains:
        yield make_warning_finding(
            "DOC006",
            f"services are published under {', '.join(domains)}, but the profile has {requirements.profile.spec.domain}",
            "the host names that Ebbtide predicts are wrong",
            f"set domain: {domains[0]} in the profile",
        )


def _check_node_start(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Report that Knative does not wait for nodes that an autoscaler starts.

    Upstream: knative.dev/serving v0.48.1 and v0.51.0 pkg/reconciler/revision/reconcile_resources.go; v0.44.0 does not have the key.
    """
    spec, key = requirements.profile.spec, "pod-is-always-schedulable"
    pools = [pool.name for pool in spec.node_pools if pool.node_autoscaler is not None]
    live = observed.read_map("config-deployment")
    if not pools or live is None or live.get(key) == "true" or parse_version(spec.knative.version) < SCHEDULABLE_SINCE:
        return
    yield make_warning_finding(
        "DOC204",
        f"{key} is not true in config-deployment, but an autoscaler starts the nodes of {', '.join(pools)}",
        "while its first pod waits for a node, a revision is reported as failed, and clients stop waiting for it",
        f'set {key}: "true" in config-deployment and in knative.deployment of the profile',
        _make_map_patch("deployment", {key: "true"}),
    )


def find_missing_controller(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Yield a controller that the specs need and that does not run, and several that write."""
    if observed.controllers is None:
        return
    names = [plan.name for plan in requirements.plans if plan.scaling.scaler == "controller"]
    running = [lease for lease in observed.controllers if lease.runs]
    if len(running) > 1:
        places = ", ".join(lease.namespace for lease in running)
        yield make_error_finding(
            "DOC070",
            f"controllers of Ebbtide lead in {len(running)} namespaces: {places}",
            "they write the same floors, and each undoes the other's decisions",
            "keep one of them: all replicas of a controller need the same --namespace",
        )
    expected = requirements.profile.spec.autoscaling.controller
    if running or not (names or expected):
        return
    why = (
        f"{', '.join(names)} {'needs' if len(names) == 1 else 'need'} it" if names else "the profile says that it runs"
    )
    yield (make_error_finding if names else make_warning_finding)(
        "DOC071",
        f"Ebbtide's controller {of_cluster.describe_stopped_controller(observed.controllers)}, but {why}",
        "floors stay as they are: services do not scale on latency, CPU, GPU, custom metrics and schedules, although Knative "
        "still starts and removes replicas with the traffic",
        "run kubectl apply -k kustomize/controller, or set autoscaling.controller: false in the profile",
    )


def _check_resources(observed: ObservedCluster, _: SpecRequirements) -> Iterator[Finding]:
    """Yield custom resources that no controller applies."""
    resources = observed.list_resources()
    if resources is None or observed.controllers is None:
        return
    waiting = [f"{row['metadata']['namespace']}/{row['metadata']['name']}" for row in resources if _waits(row)]
    listed = ", ".join(waiting[:MAX_NAMES]) + (" and others" if len(waiting) > MAX_NAMES else "")
    if not any(lease.runs for lease in observed.controllers):
        state = of_cluster.describe_stopped_controller(observed.controllers)
        held = f", and {listed} {'waits' if len(waiting) == 1 else 'wait'} for it" if waiting else ""
        yield (make_error_finding if waiting else make_warning_finding)(
            "DOC189",
            f"custom resources are installed, but Ebbtide's controller {state}{held}",
            "new and changed resources are not applied; the services go on",
            "run kubectl apply -k kustomize/crd, or delete the definitions if no resource is left",
        )
    elif waiting:
        yield make_error_finding(
            "DOC190",
            f"the controller does not apply {listed}",
            "their objects are neither created nor changed",
            "start the controller with --inferences, as kustomize/crd does, and read its log",
        )


def _waits(resource: Object) -> bool:
    """Return whether a resource has waited for the controller longer than a running one takes."""
    metadata = resource["metadata"]
    if get_at(resource, "status", "observedGeneration") == metadata.get("generation", 1):
        return False
    edits = [row.get("time") for row in metadata.get("managedFields") or () if not row.get("subresource")]
    changed = max([parse_timestamp(metadata.get("creationTimestamp")), *map(parse_timestamp, edits)])
    return datetime.now(UTC).timestamp() - changed >= of_cluster.STALE_SECONDS


def _check_scaling(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    spec = requirements.profile.spec
    by_hpa = [plan.name for plan in requirements.plans if plan.scaling.scaler == "knative-hpa"]
    needed = requirements.specs is None or bool(by_hpa)
    deployments = observed.list_running(KNATIVE_NAMESPACE) if observed.serves("knative") else None
    running = of_cluster.HPA_EXTENSION in (deployments or ())
    if deployments is not None and spec.knative.hpa != running:
        make = make_error_finding if spec.knative.hpa and needed else make_warning_finding
        yield make(
            "DOC007",
            f"Knative's HPA extension {'is' if running else 'is not'} running, but the profile says "
            f"that it {'is not' if running else 'is'}",
            "services that scale on latency, CPU, GPU or a custom metric keep their number of replicas, whatever the load"
            if not running
            else "Ebbtide rejects specs that scale on latency, CPU, GPU or a custom metric, although they would work",
            "apply serving-hpa.yaml of the Knative release" if not running else "set knative.hpa: true in the profile",
        )
    if spec.metrics.metrics_server and not observed.serves("metrics-server"):
        yield (make_error_finding if needed else make_warning_finding)(
            "DOC008",
            "the API metrics.k8s.io is unavailable, but the profile says that metrics-server runs",
            "workloads cannot scale on CPU",
            "install metrics-server, or set metrics.metricsServer: false in the profile",
        )
    yield from find_missing_metrics(observed, requirements)


def find_missing_metrics(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Yield findings about the APIs and the metrics that HPAs and ScaledObjects need."""
    needed = requirements.specs is None or any(
        plan.scaling.scaler in {"knative-hpa", "own-hpa", "keda"} for plan in requirements.plans
    )
    adapter = requirements.profile.spec.metrics.adapter
    if adapter == "prometheus-adapter" and observed.metrics is None:
        yield (make_error_finding if needed else make_warning_finding)(
            "DOC008",
            "the API custom.metrics.k8s.io is unavailable, but the profile says that prometheus-adapter runs",
            "workloads cannot scale on latency, GPU or a custom metric",
            "install prometheus-adapter with the rules of kustomize/metrics, or correct metrics.adapter in the profile",
        )
    if adapter == "keda" and not observed.serves("keda"):
        yield (make_error_finding if needed else make_warning_finding)(
            "DOC008",
            "KEDA is not installed, but the profile names it as the metrics adapter",
            "the API server rejects ScaledObjects as an unknown kind",
            "install KEDA, or correct metrics.adapter in the profile",
        )
    if adapter == "prometheus-adapter" and observed.metrics is not None:
        for plan in requirements.plans:
            name = plan.scaling.metric_name
            by_hpa = plan.scaling.scaler in {"knative-hpa", "own-hpa"}
            if by_hpa and not find_resource_metric(name) and name not in observed.metrics:
                yield make_warning_finding(
                    "DOC009",
                    f"{plan.name} scales on the pod metric {name}, which custom.metrics.k8s.io does not serve now",
                    "the metric appears once Prometheus has scraped a pod that exports it; until then the HPA does not "
                    "change the replicas",
                    "if the metric stays missing, check the adapter's rules and the monitors (kustomize/metrics)",
                )


def _format_value(value: bool | str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return value if isinstance(value, str) else str(value).lower()


def _check_modes(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    """Report InferenceServices whose every update KServe's webhook rejects after an upgrade, by their deployment mode.

    Upstream: kserve v0.20.0 pkg/apis/serving/v1beta1/inference_service_defaults.go (the webhook writes the default mode Standard
    into an object without the annotation, and replaces former names) and inference_service_validation.go
    (validateDeploymentMode compares the annotation with the status; kserve/kserve#5427 made it accept a former name there).
    """
    version = parse_version(requirements.profile.spec.kserve.version)
    default = observed.read_kserve("deploy").get("defaultDeploymentMode", "")
    (knative, former), standard = MODES["kserve"], MODES["kserve-standard"]
    renamed, moved = [], []
    for obj in (observed.list_objects(KSERVE) or ()) if requirements.profile.spec.kserve.installed else ():
        name = f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        status = get_at(obj, "status", "deploymentMode", default="")
        if status in {former, standard[1]} and version < FORMER_NAMES_ACCEPTED_SINCE:
            renamed.append(name)
        elif status in {knative, former} and default in standard and not _has_mode(obj):
            moved.append(name)
    if renamed:
        yield make_warning_finding(
            "DOC205",
            f"the status of {_list_names(renamed)} has a deployment mode by its former name",
            "KServe since 0.16 has other names, and before kserve/kserve#5427 it rejects each update and the deletion of such an object",
            "upgrade to KServe 0.20 or later, without a stop between 0.16 and 0.19",
        )
    if moved:
        yield make_error_finding(
            "DOC205",
            f"the default deployment mode of KServe is {default}, but {_list_names(moved)} runs in mode Knative without the annotation",
            "KServe's webhook rejects each update: deploymentMode cannot be changed",
            f"annotate each with {keys.DEPLOYMENT_MODE}: Knative",
        )


def _has_mode(obj: Object) -> bool:
    return keys.DEPLOYMENT_MODE in get_at(obj, "metadata", "annotations", default={})


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")


def _check_kserve(observed: ObservedCluster, requirements: SpecRequirements) -> Iterator[Finding]:
    declared = requirements.profile.spec.kserve
    if observed.read_map(of_cluster.KSERVE_MAP, of_cluster.KSERVE_NAMESPACE) is None:
        return
    unlisted = [name for name in declared.annotation_disallow_list if name not in observed.disallowed]
    if unlisted and declared.installed:
        settings_ = {
            **observed.read_kserve("inferenceService"),
            "serviceAnnotationDisallowedList": [*observed.disallowed, *unlisted],
        }
        body = {"data": {"inferenceService": json.dumps(settings_, indent=2)}}
        yield make_error_finding(
            "DOC010",
            f"KServe's serviceAnnotationDisallowedList does not contain {', '.join(unlisted)}, but the profile lists "
            f"{'it' if len(unlisted) == 1 else 'them'}",
            "KServe copies the annotation to pods, so every edit of a spec creates a new revision",
            f"add {', '.join(unlisted)} to serviceAnnotationDisallowedList in inferenceService of {of_cluster.KSERVE_MAP}",
            FixPatch("merge", CONFIG_MAP, of_cluster.KSERVE_MAP, of_cluster.KSERVE_NAMESPACE, body),
        )
    dropped = [name for name in (keys.SPEC, keys.SCALE) if name in observed.disallowed]
    undeclared = [name for name in dropped if name not in declared.annotation_disallow_list]
    if undeclared and declared.installed:
        yield make_warning_finding(
            "DOC010",
            f"KServe does not copy {', '.join(undeclared)} to pods, but the profile does not list "
            f"{'it' if len(undeclared) == 1 else 'them'}",
            "Ebbtide does not store the spec on InferenceServices, so they cannot be compared or read back",
            f"add {', '.join(undeclared)} to the profile's kserve.annotationDisallowList",
        )
    for field, in_profile, live, effect in (
        (
            "httpRouteTimeouts",
            declared.http_route_timeouts,
            observed.http_route_timeouts,
            "requests of KServe Standard end at another time than Ebbtide reports",
        ),
        (
            "ociModels",
            declared.oci_models,
            observed.oci_models,
            "models from images do not start, or are rejected in vain",
        ),
        (
            "localModelNodeGroups",
            sorted(declared.local_model_node_groups),
            observed.model_node_groups,
            "specs with start.modelCache are rejected in vain, or their replicas wait for a volume that KServe does not create",
        ),
    ):
        if declared.installed and live is not None and live != in_profile:
            yield make_warning_finding(
                "DOC057",
                f"kserve.{field} of the profile is {_format_value(in_profile)}, but {of_cluster.KSERVE_MAP} and its objects say "
                f"{_format_value(live)}",
                effect,
                f"set kserve.{field}: {_format_value(live)} in the profile",
            )
    runtimes = observed.runtimes
    missing = [name for name in declared.runtimes if name not in (runtimes or ())]
    if missing and runtimes is not None:
        yield make_error_finding(
            "DOC011",
            f"serving runtime{'' if len(missing) == 1 else 's'} not found: {', '.join(missing)}; the profile lists "
            f"{'it' if len(missing) == 1 else 'them'}",
            "models that ask for a missing runtime are rejected",
            "apply kserve-cluster-resources.yaml of the KServe release, or remove the missing runtimes from the profile",
        )


CHECKS: Final = (
    _check_specs,
    _check_versions,
    _check_installed,
    _check_features,
    _check_settings,
    _check_node_start,
    find_missing_controller,
    _check_resources,
    _check_scaling,
    _check_modes,
    _check_kserve,
)
