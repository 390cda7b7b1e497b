"""Checks of what is installed: versions, Knative's and KServe's settings, the sources of metrics."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Final

from ebbtide.base import keys
from ebbtide.base.metrics import resource
from ebbtide.cluster.client.protocol import CONFIG_MAP
from ebbtide.cluster.doctor.findings import Patch, error, warning
from ebbtide.cluster.doctor.observed import (
    CONTROLLERS,
    HPA_EXTENSION,
    KSERVE_CONTROLLER,
    KSERVE_MAP,
    KSERVE_NAMESPACE,
    MAPS,
    effective,
    minor,
    same,
    settings,
)
from ebbtide.cluster.read.inventory import KNATIVE_NAMESPACE
from ebbtide.translation.serving.knative import ALLOWED
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebbtide.cluster.doctor.findings import Finding, Wanted
    from ebbtide.cluster.doctor.observed import Observed


def _map_patch(part: str, data: Mapping[str, str]) -> Patch:
    return Patch("merge", CONFIG_MAP, f"config-{part}", KNATIVE_NAMESPACE, {"data": dict(data)})


def _unread(seen: Observed, _: Wanted) -> Iterator[Finding]:
    if seen.unread:
        yield warning(
            "DOC001",
            f"you may not read {', '.join(seen.unread)}",
            "what depends on them was not looked at",
            "ask somebody who may, or for the ClusterRole ebbtide-observer of kustomize/roles",
        )


def _specs(_: Observed, wanted: Wanted) -> Iterator[Finding]:
    for name, problem in wanted.refused:
        yield error(
            "DOC025",
            f"{name} does not translate for profile {wanted.profile.metadata.name}: {problem}",
            "what it needs of the cluster is not known",
            "see ebbtide check, and then look again",
        )


def _versions(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    spec = wanted.profile.spec
    rows = (
        ("Kubernetes", "kubernetes.version", spec.kubernetes.version, seen.kubernetes, True),
        ("Knative", "knative.version", spec.knative.version, seen.knative, "knative" in seen.served),
        ("KServe", "kserve.version", spec.kserve.version, seen.kserve, "kserve" in seen.served),
    )
    for name, where, said, live, there in rows:
        if there and live and minor(said) != minor(live):
            yield warning(
                "DOC002",
                f"{name} is {live} here, and the profile says {said}",
                "names of fields, modes and metrics go by the version",
                f"set {where}: {minor(live)} in the profile",
            )


def _installed(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    spec = wanted.profile.spec
    used = {plan.serving for plan in wanted.plans}
    for name, group, said, needed in (
        ("Knative Serving", "knative", spec.knative.installed, used - {"kserve-standard"}),
        ("KServe", "kserve", spec.kserve.installed, used - {"knative"}),
    ):
        there = group in seen.served
        if said and not there and (wanted.specs is None or needed):
            yield error(
                "DOC003",
                f"{name} is not here, and the profile says that it is",
                "its objects are refused as of an unknown kind",
                f"install it, or set {group}.installed: false in the profile",
            )
        if there and not said:
            yield warning(
                "DOC003",
                f"{name} is here, and the profile says that it is not",
                "specs that need it are refused without reason",
                f"set {group}.installed: true in the profile",
            )
    if "knative" in seen.served and seen.deployments is not None:
        for name in CONTROLLERS:
            if not seen.deployments.get(name, False):
                yield error(
                    "DOC004",
                    f"Knative's {name} does not run",
                    WITHOUT[name],
                    f"see kubectl describe deployment {name} -n {KNATIVE_NAMESPACE}",
                )

    if "kserve" in seen.served and spec.kserve.installed and seen.kserve_runs is False:
        yield error(
            "DOC004",
            f"KServe's {KSERVE_CONTROLLER} does not run",
            "InferenceServices are refused, since its webhook does not answer, or nothing comes of them",
            f"see kubectl describe deployment {KSERVE_CONTROLLER} -n {KSERVE_NAMESPACE}",
        )


WITHOUT: Final = {
    "activator": "nothing wakes a service that rests at zero, and requests to it fail",
    "autoscaler": "replicas stay as they are, whatever the load",
    "controller": "what is applied is stored, and nothing comes of it",
    "webhook": "every write of a Knative object is refused",
}


def _features(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    live = effective(seen, "features")
    if seen.maps.get("features") is None:
        return
    for flag, said in sorted(wanted.profile.spec.knative.features.items()):
        if flag not in MAPS["features"] or said not in ALLOWED or live[flag] == said:
            continue
        if live[flag] in ALLOWED and said == "allowed":
            continue
        asks = _asking(wanted, flag, live[flag])
        make = warning if wanted.specs is not None and not asks else error
        whose = f" ({', '.join(asks)})" if asks else ""
        yield make(
            "DOC005",
            f"{flag} is {live[flag]} in config-features, and the profile says {said}",
            f"Knative's webhook refuses what needs it{whose}",
            f"set {flag}: {said} there",
            _map_patch("features", {flag: said}),
        )
    for flag, value in settings(seen, "features").items():
        if flag not in wanted.profile.spec.knative.features:
            yield warning(
                "DOC006",
                f"{flag} is {value} in config-features, and the profile does not say so",
                "specs that need it are refused without reason"
                if value in ALLOWED
                else "specs that need it are refused",
                f"set {flag}: {value} in the profile's knative.features",
            )


def _asking(wanted: Wanted, flag: str, value: str) -> list[str]:
    """Return the workloads that a feature flag's value keeps out."""
    changed = deepcopy(wanted.profile)
    changed.spec.knative.features[flag] = value
    found = []
    for each in wanted.specs or ():
        codes = {problem.message for problem in translate(each, changed, "{}").problems if problem.code == "FLG001"}
        before = {problem.message for problem in translate(each, wanted.profile, "{}").problems}
        if codes - before:
            found.append(str(each.metadata.name))
    return found


def _settings(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    knative = wanted.profile.spec.knative
    for part in MAPS:
        live = seen.maps.get(part)
        if part == "features" or live is None:
            continue
        said: dict[str, str] = getattr(knative, part)
        for key, value in sorted(said.items()):
            now = live.get(key, MAPS[part].get(key, ""))
            if not same(now, value):
                yield warning(
                    "DOC006",
                    f"{key} is {now or 'not set'} in config-{part}, and the profile says {value}",
                    "answers about this cluster go by the profile, and are wrong here",
                    f"set {key}: {value} there, or {now or 'nothing'} in the profile's knative.{part}",
                    _map_patch(part, {key: value}),
                )
        for key, value in settings(seen, part).items():
            if key not in said:
                yield warning(
                    "DOC006",
                    f"{key} is {value} in config-{part}, and the profile does not say so",
                    f"upstream's default, {MAPS[part][key] or 'nothing'}, is taken for it",
                    f"set {key}: {value} in the profile's knative.{part}",
                )
    domains = [name for name in seen.maps.get("domain") or {} if not name.startswith("_")]
    if domains and wanted.profile.spec.domain not in domains:
        yield warning(
            "DOC006",
            f"services are published under {', '.join(domains)}, and the profile says {wanted.profile.spec.domain}",
            "host names that are foretold are wrong",
            f"set domain: {domains[0]} in the profile",
        )


def _scaling(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    spec = wanted.profile.spec
    by_hpa = [plan.name for plan in wanted.plans if plan.scaling.scaler == "knative-hpa"]
    asked = wanted.specs is None or bool(by_hpa)
    there = bool((seen.deployments or {}).get(HPA_EXTENSION))
    if "knative" in seen.served and seen.deployments is not None and spec.knative.hpa != there:
        make = error if spec.knative.hpa and asked else warning
        yield make(
            "DOC007",
            f"Knative's HPA extension {'runs' if there else 'does not run'} here, and the profile says otherwise",
            "services that scale by latency, CPU, GPU or a custom metric keep their replicas whatever comes"
            if not there
            else "specs that scale so are refused without reason",
            "apply serving-hpa.yaml of the release" if not there else "set knative.hpa: true in the profile",
        )
    if spec.metrics.metrics_server and "metrics-server" not in seen.served:
        yield (error if asked else warning)(
            "DOC008",
            "metrics.k8s.io is not served, and the profile says that metrics-server runs",
            "nothing can scale by CPU",
            "install metrics-server, or set metrics.metricsServer: false in the profile",
        )
    adapter = spec.metrics.adapter
    if adapter == "prometheus-adapter" and seen.metrics is None:
        yield (error if asked else warning)(
            "DOC008",
            "custom.metrics.k8s.io is not served, and the profile says that prometheus-adapter runs",
            "nothing can scale by latency, GPU or a custom metric",
            "install prometheus-adapter with the rules of kustomize/metrics, or set metrics.adapter in the profile",
        )
    if adapter == "keda" and "keda" not in seen.served:
        yield (error if asked else warning)(
            "DOC008",
            "KEDA is not here, and the profile says that it is the adapter",
            "ScaledObjects are refused as of an unknown kind",
            "install KEDA, or set metrics.adapter in the profile",
        )
    if adapter == "prometheus-adapter" and seen.metrics is not None:
        for plan in wanted.plans:
            name = plan.scaling.metric_name
            if plan.scaling.scaler == "knative-hpa" and not resource(name) and name not in seen.metrics:
                yield warning(
                    "DOC009",
                    f"custom.metrics.k8s.io does not serve {name} of pods now, which {plan.name} scales by",
                    "it comes once a pod is scraped that counts it; until then the HPA leaves the replicas alone",
                    "if it stays away, see the adapter's rules (kustomize/metrics) and the monitors",
                )


def _kserve(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    said = wanted.profile.spec.kserve
    if "kserve" not in seen.served or seen.kserve_map is None:
        return
    lacking = [name for name in said.annotation_disallow_list if name not in seen.disallowed]
    if lacking and said.installed:
        whole = {**seen.inference_settings, "serviceAnnotationDisallowedList": [*seen.disallowed, *lacking]}
        body = {"data": {"inferenceService": json.dumps(whole, indent=2)}}
        yield error(
            "DOC010",
            f"KServe's serviceAnnotationDisallowedList lacks {', '.join(lacking)}, and the profile lists it",
            "the annotation is copied to pods, so that each edit of a spec makes a new revision",
            f"add it to inferenceService of {KSERVE_MAP}",
            Patch("merge", CONFIG_MAP, KSERVE_MAP, KSERVE_NAMESPACE, body),
        )
    beyond = [name for name in (keys.SPEC, keys.SCALE) if name in seen.disallowed]
    unsaid = [name for name in beyond if name not in said.annotation_disallow_list]
    if unsaid and said.installed:
        yield warning(
            "DOC010",
            f"KServe keeps {', '.join(unsaid)} off pods here, and the profile does not say so",
            "the spec is not kept on InferenceServices, so that they cannot be compared or read back",
            "add it to the profile's kserve.annotationDisallowList",
        )
    missing = [name for name in said.runtimes if name not in (seen.runtimes or ())]
    if missing and seen.runtimes is not None:
        yield error(
            "DOC011",
            f"the serving runtimes {', '.join(missing)} are not here, and the profile lists them",
            "a model that asks for one is refused",
            "apply them (kserve-cluster-resources.yaml of the release), or take them off the profile",
        )


CHECKS: Final = (_unread, _specs, _versions, _installed, _features, _settings, _scaling, _kserve)
