"""What a cluster lacks for a profile and its specs: findings with what they mean, what to do, and the patch that does it.

A profile is a promise that translation relies on. Each check compares one part of it with what was observed, in both
directions: what the profile says and the cluster is not would be refused or ignored there; what the cluster is and the
profile does not say makes answers about it wrong. Nothing is written but by ``mend``. Upstream: as ``observed`` names it,
and knative.dev/networking pkg/apis/networking (ClusterDomainClaim), kubernetes.io/docs/concepts/security/pod-security-admission.
"""

from __future__ import annotations

import json
import shlex
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from ebbtide.base import keys
from ebbtide.cluster.client.protocol import (
    CLUSTER_ROLE,
    CONFIG_MAP,
    DEPLOYMENT,
    DOMAIN_CLAIM,
    EVENT,
    HPA,
    KNATIVE,
    KSERVE,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    POD_AUTOSCALER,
    PRIORITY_CLASS,
    QUEUE,
    QUOTA,
    REVISION,
    SERVICE,
    ClusterError,
    ForbiddenError,
    Kind,
    MissingError,
    at,
    kind_of,
)
from ebbtide.cluster.doctor.observed import (
    CONTROLLERS,
    HPA_EXTENSION,
    KSERVE_CONTROLLER,
    KSERVE_MAP,
    KSERVE_NAMESPACE,
    MAPS,
    POD_SECURITY,
    Observed,
    class_values,
    effective,
    gpus_of,
    minor,
    observe,
    product_of,
    profile_of,
    same,
    settings,
)
from ebbtide.cluster.read.live import KNATIVE_NAMESPACE
from ebbtide.cluster.write.apply import SHARED
from ebbtide.translation import pod_security, project
from ebbtide.translation.gpu import mig
from ebbtide.translation.plan import Priority
from ebbtide.translation.priority import make_class
from ebbtide.translation.serving.knative import ALLOWED
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ebbtide.base.problems import Severity
    from ebbtide.cluster.client.protocol import Cluster
    from ebbtide.profile.models import NodePool, Profile
    from ebbtide.spec.inference import Inference
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan

Action = Literal["merge", "create", "delete"]
#: Ingress classes, with the service that must be there for each: namespace and name.
GATEWAYS: Final = {
    "kourier.ingress.networking.knative.dev": ("kourier-system", "kourier"),
    "contour.ingress.networking.knative.dev": ("contour-external", "envoy"),
    "istio.ingress.networking.knative.dev": ("istio-system", "istio-ingressgateway"),
}
USUAL_GATEWAY: Final = "istio.ingress.networking.knative.dev"
CLAIMS: Final = "autocreate-cluster-domain-claims"
OBSERVER_ROLE: Final = "ebbtide-observer"
_LOOK: Final = ["get", "list"]
#: What doctor reads of a whole cluster: settings, nodes and what workloads may name; no Secret, and of ConfigMaps these alone.
OBSERVER_RULES: Final[list[Object]] = [
    {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [*(f"config-{part}" for part in (*MAPS, "domain")), KSERVE_MAP],
        "verbs": ["get"],
    },
    {"apiGroups": [""], "resources": ["nodes", "namespaces", "services", "resourcequotas"], "verbs": _LOOK},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": _LOOK},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": _LOOK},
    {"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": _LOOK},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": _LOOK},
    {"apiGroups": ["networking.internal.knative.dev"], "resources": ["clusterdomainclaims"], "verbs": _LOOK},
    {"apiGroups": ["serving.kserve.io"], "resources": ["clusterservingruntimes"], "verbs": _LOOK},
    {"apiGroups": ["scheduling.run.ai"], "resources": ["queues"], "verbs": _LOOK},
]
#: What commands read of a workload's namespace.
READ: Final = (KNATIVE, KSERVE, REVISION, POD_AUTOSCALER, DEPLOYMENT, POD, HPA, QUOTA, EVENT)
#: What an apply does with each kind that it writes: server-side apply is a patch, and a create where nothing is.
WRITE: Final = ("get", "create", "patch")


@dataclass(frozen=True, slots=True)
class Patch:
    """What mends a finding: a merge into an object, an object to create, or one to delete."""

    action: Action
    kind: Kind
    name: str
    namespace: str = ""
    body: Object = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "action": self.action,
            "kind": self.kind.name,
            "name": self.name,
            "namespace": self.namespace,
            "body": self.body,
        }

    def __str__(self) -> str:
        """Return it as the line of kubectl that does the same."""
        where = f" -n {self.namespace}" if self.namespace else ""
        what = f"{self.kind.plural} {self.name}"
        if self.action == "delete":
            return f"kubectl delete {what}{where}"
        body = shlex.quote(json.dumps(self.body, ensure_ascii=False))
        if self.action == "create":
            return f"kubectl create -f - <<< {body}"
        return f"kubectl patch {what}{where} --type merge -p {body}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: a code of ``ebbtide docs``, what it means for the user, what to do."""

    code: str
    severity: Severity
    what: str
    means: str
    fix: str
    patch: Patch | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "code": self.code,
            "severity": self.severity,
            "what": self.what,
            "means": self.means,
            "fix": self.fix,
            "patch": None if self.patch is None else self.patch.as_dict(),
            "command": "" if self.patch is None else str(self.patch),
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What specs come to on the cluster of a profile: their plans, their objects, and where they go."""

    profile: Profile
    #: None where doctor is asked about the cluster alone.
    specs: tuple[Inference, ...] | None
    plans: tuple[Plan, ...] = ()
    objects: tuple[Object, ...] = ()
    #: The specs that do not translate, each with the first error.
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that the specs go to."""
        return tuple(dict.fromkeys(plan.namespace for plan in self.plans))


def examine(
    cluster: Cluster, profile: Profile, specs: Sequence[Inference] | None = None, observed: Observed | None = None
) -> tuple[Finding, ...]:
    """Return everything that is not as a profile says, or that specs lack; errors first. Nothing is written.

    Raises:
        UnreachableError: nobody answers.

    """
    seen = observe(cluster) if observed is None else observed
    wanted = _wanted(profile, specs)
    found = [finding for check in CHECKS for finding in check(seen, wanted)]
    found += [finding for ask in ASKS for finding in ask(cluster, seen, wanted)]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def observed_profile(cluster: Cluster) -> dict[str, Any]:
    """Return the profile of a live cluster, as a document. ``examine`` has nothing to say of the two together."""
    return profile_of(observe(cluster))


def mend(cluster: Cluster, patch: Patch, *, dry_run: bool = False) -> None:
    """Do what mends a finding, as manager ``ebbtide-live``; what a map has beside the patch's keys stays.

    Raises:
        ClusterError: the cluster does not let it.

    """
    match patch.action:
        case "merge":
            cluster.patch(patch.kind, patch.name, patch.namespace, patch.body, dry_run=dry_run)
        case "create" if dry_run:
            cluster.apply(patch.body, dry_run=True)
        case "create":
            cluster.create(patch.body)
        case _ if not dry_run:
            cluster.delete(patch.kind, patch.name, patch.namespace)


def observer_role() -> Object:
    """Return the ClusterRole that lets doctor see all; kustomize/roles has it."""
    return {
        "apiVersion": CLUSTER_ROLE.api_version,
        "kind": CLUSTER_ROLE.name,
        "metadata": {"name": OBSERVER_ROLE, "labels": {keys.APP_MANAGED_BY: "ebbtide"}},
        "rules": OBSERVER_RULES,
    }


def _wanted(profile: Profile, specs: Sequence[Inference] | None) -> Wanted:
    if specs is None:
        return Wanted(profile, None)
    made = [translate(spec, profile, "{}") for spec in specs]
    return Wanted(
        profile,
        tuple(specs),
        tuple(each.plan for each in made if each.plan is not None),
        tuple(item for each in made for item in each.objects),
        tuple(
            (str(spec.metadata.name), f"{found.code} {found.path}: {found.message}")
            for spec, each in zip(specs, made, strict=True)
            for found in [problem for problem in each.problems if problem.severity == "error"][:1]
        ),
    )


def _error(code: str, what: str, means: str, fix: str, patch: Patch | None = None) -> Finding:
    return Finding(code, "error", what, means, fix, patch)


def _warning(code: str, what: str, means: str, fix: str, patch: Patch | None = None) -> Finding:
    return Finding(code, "warning", what, means, fix, patch)


def _map_patch(part: str, data: Mapping[str, str]) -> Patch:
    return Patch("merge", CONFIG_MAP, f"config-{part}", KNATIVE_NAMESPACE, {"data": dict(data)})


# What was read.


def _unread(seen: Observed, _: Wanted) -> Iterator[Finding]:
    if seen.unread:
        yield _warning(
            "DOC001",
            f"you may not read {', '.join(seen.unread)}",
            "what depends on them was not looked at",
            "ask somebody who may, or for the ClusterRole ebbtide-observer of kustomize/roles",
        )


def _specs(_: Observed, wanted: Wanted) -> Iterator[Finding]:
    for name, problem in wanted.refused:
        yield _error(
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
            yield _warning(
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
            yield _error(
                "DOC003",
                f"{name} is not here, and the profile says that it is",
                "its objects are refused as of an unknown kind",
                f"install it, or set {group}.installed: false in the profile",
            )
        if there and not said:
            yield _warning(
                "DOC003",
                f"{name} is here, and the profile says that it is not",
                "specs that need it are refused without reason",
                f"set {group}.installed: true in the profile",
            )
    if "knative" in seen.served and seen.deployments is not None:
        for name in CONTROLLERS:
            if not seen.deployments.get(name, False):
                yield _error(
                    "DOC004",
                    f"Knative's {name} does not run",
                    WITHOUT[name],
                    f"see kubectl describe deployment {name} -n {KNATIVE_NAMESPACE}",
                )

    if "kserve" in seen.served and spec.kserve.installed and seen.kserve_runs is False:
        yield _error(
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
        make = _warning if wanted.specs is not None and not asks else _error
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
            yield _warning(
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
                yield _warning(
                    "DOC006",
                    f"{key} is {now or 'not set'} in config-{part}, and the profile says {value}",
                    "answers about this cluster go by the profile, and are wrong here",
                    f"set {key}: {value} there, or {now or 'nothing'} in the profile's knative.{part}",
                    _map_patch(part, {key: value}),
                )
        for key, value in settings(seen, part).items():
            if key not in said:
                yield _warning(
                    "DOC006",
                    f"{key} is {value} in config-{part}, and the profile does not say so",
                    f"upstream's default, {MAPS[part][key] or 'nothing'}, is taken for it",
                    f"set {key}: {value} in the profile's knative.{part}",
                )
    domains = [name for name in seen.maps.get("domain") or {} if not name.startswith("_")]
    if domains and wanted.profile.spec.domain not in domains:
        yield _warning(
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
        make = _error if spec.knative.hpa and asked else _warning
        yield make(
            "DOC007",
            f"Knative's HPA extension {'runs' if there else 'does not run'} here, and the profile says otherwise",
            "services that scale by latency, CPU, GPU or a custom metric keep their replicas whatever comes"
            if not there
            else "specs that scale so are refused without reason",
            "apply serving-hpa.yaml of the release" if not there else "set knative.hpa: true in the profile",
        )
    if spec.metrics.metrics_server and "metrics-server" not in seen.served:
        yield (_error if asked else _warning)(
            "DOC008",
            "metrics.k8s.io is not served, and the profile says that metrics-server runs",
            "nothing can scale by CPU",
            "install metrics-server, or set metrics.metricsServer: false in the profile",
        )
    adapter = spec.metrics.adapter
    if adapter == "prometheus-adapter" and seen.metrics is None:
        yield (_error if asked else _warning)(
            "DOC008",
            "custom.metrics.k8s.io is not served, and the profile says that prometheus-adapter runs",
            "nothing can scale by latency, GPU or a custom metric",
            "install prometheus-adapter with the rules of kustomize/metrics, or set metrics.adapter in the profile",
        )
    if adapter == "keda" and "keda" not in seen.served:
        yield (_error if asked else _warning)(
            "DOC008",
            "KEDA is not here, and the profile says that it is the adapter",
            "ScaledObjects are refused as of an unknown kind",
            "install KEDA, or set metrics.adapter in the profile",
        )
    if adapter == "prometheus-adapter" and seen.metrics is not None:
        for plan in wanted.plans:
            name = plan.scaling.metric_name
            if plan.scaling.scaler == "knative-hpa" and name != "cpu" and name not in seen.metrics:
                yield _warning(
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
        yield _error(
            "DOC010",
            f"KServe's serviceAnnotationDisallowedList lacks {', '.join(lacking)}, and the profile lists it",
            "the annotation is copied to pods, so that each edit of a spec makes a new revision",
            f"add it to inferenceService of {KSERVE_MAP}",
            Patch("merge", CONFIG_MAP, KSERVE_MAP, KSERVE_NAMESPACE, body),
        )
    beyond = [name for name in (keys.SPEC, keys.SCALE) if name in seen.disallowed]
    unsaid = [name for name in beyond if name not in said.annotation_disallow_list]
    if unsaid and said.installed:
        yield _warning(
            "DOC010",
            f"KServe keeps {', '.join(unsaid)} off pods here, and the profile does not say so",
            "the spec is not kept on InferenceServices, so that they cannot be compared or read back",
            "add it to the profile's kserve.annotationDisallowList",
        )
    missing = [name for name in said.runtimes if name not in (seen.runtimes or ())]
    if missing and seen.runtimes is not None:
        yield _error(
            "DOC011",
            f"the serving runtimes {', '.join(missing)} are not here, and the profile lists them",
            "a model that asks for one is refused",
            "apply them (kserve-cluster-resources.yaml of the release), or take them off the profile",
        )


def _classes(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    if seen.classes is None:
        return
    scheduling = wanted.profile.spec.scheduling
    live = class_values(seen)
    for name, value in scheduling.classes.items():
        if name in live and live[name] != value:
            yield _error(
                "DOC012",
                f"priority class {name} has the value {live[name]} here, and the profile says {value}",
                "who gives way to whom is not as the profile says; a class's value can never be changed",
                f"set scheduling.classes.{name}: {live[name]} in the profile, or delete the class and make it anew",
            )
        elif name not in live and scheduling.classes_owner != "ebbtide":
            body = make_class(Priority(name, value, True, preemptible=value < 100))  # noqa: PLR2004 - Run:ai's line
            yield _error(
                "DOC013",
                f"there is no priority class {name} here, and the profile says that the cluster has it",
                "pods that name it are refused",
                f"create it with the value {value}, or set scheduling.classesOwner: ebbtide in the profile",
                Patch("create", PRIORITY_CLASS, name, body=body),
            )


def _pools(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    if seen.nodes is None:
        return
    used = {plan.pool.name for plan in wanted.plans if plan.pool is not None and plan.gpu is not None}
    for pool in wanted.profile.spec.node_pools:
        make = _warning if wanted.specs is not None and pool.name not in used else _error
        yield from (make(*row) for row in _of_pool(pool, seen.nodes))


def _of_pool(pool: NodePool, nodes: Sequence[Object]) -> Iterator[tuple[str, str, str, str]]:
    """Yield code, what, meaning and fix of what a pool's nodes are not."""
    where = f"node pool {pool.name}"
    labels = dict(pool.selector)
    mine = [
        node for node in nodes if all(at(node, "metadata", "labels", key) == value for key, value in labels.items())
    ]
    if not mine:
        told = ", ".join(f"{key}={value}" for key, value in labels.items())
        yield (
            "DOC014",
            f"no node has the labels of {where}: {told}" if told else f"there is no node for {where}",
            "its workloads wait for a node",
            f"label the nodes, or correct nodePools ({pool.name}) in the profile",
        )
        return
    if not pool.product:
        return
    told_products = {product_of(node) for node in mine if product_of(node)}
    if told_products and pool.product.removesuffix("-SHARED") not in told_products:
        yield (
            "DOC014",
            f"{where} is of {pool.product} by the profile, and its nodes have {', '.join(sorted(told_products))}",
            "what a share or a MIG profile comes to is computed for another GPU",
            f"set the product of nodePools ({pool.name}) in the profile",
        )
    if pool.backend == "dra":
        return
    resources = _resources(pool)
    best = max((sum(gpus_of(node).get(name, 0) for name in resources) for node in mine), default=0)
    if not best:
        yield (
            "DOC015",
            f"no node of {where} has {' or '.join(resources)} to give",
            "its workloads wait for a GPU for ever",
            "see the device plugin and its sharing, or correct the pool's backend in the profile",
        )
        return
    each = (pool.replicas or 1) if pool.backend in {"time-slicing", "mps"} else 1
    if pool.backend != "mig" and pool.devices and best != pool.devices * each:
        gpus = f"{pool.devices} GPU{'' if pool.devices == 1 else 's'}"
        shares = f"{gpus} in {each} shares each" if each > 1 else gpus
        yield (
            "DOC015",
            f"a node of {where} has {best} {resources[0]} to give, and the profile says {shares}",
            "how many replicas fit is foretold wrongly",
            f"correct devices or replicas of nodePools ({pool.name}) in the profile",
        )


def _resources(pool: NodePool) -> tuple[str, ...]:
    if pool.backend in {"time-slicing", "mps"}:
        return (pool.resource or keys.GPU_SHARED,)
    if pool.backend == "mig" and pool.mig_strategy == "mixed":
        return tuple(mig.named(name) for name in pool.mig_profiles) or (f"{keys.MIG_PREFIX}*",)
    return (pool.resource or keys.GPU,)


def _scheduler(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    said = wanted.profile.spec.scheduling.scheduler
    by_kai = said == "kai-scheduler" or wanted.profile.spec.projects.quota == "kai"
    if by_kai and "kai" not in seen.served:
        yield _error(
            "DOC016",
            "KAI-Scheduler is not here, and the profile says that it places pods",
            "pods wait for a scheduler that never comes, and queues are refused",
            "install KAI, or set scheduling.scheduler and projects.quota in the profile",
        )


def _parent(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    """Look at the queue above the projects: KAI leaves out queues without it, and counts its quota as well as theirs."""
    projects = wanted.profile.spec.projects
    if seen.queues is None or "kai" not in seen.served or projects.quota != "kai" or not projects.manage:
        return
    name = projects.parent_queue
    found = next((item for item in seen.queues if item["metadata"]["name"] == name), None)
    if found is None:
        yield _error(
            "DOC026",
            f"there is no queue {name}, and the profile says that the projects' queues are below it",
            "KAI leaves out queues whose parent is not there, and their pods stay pending",
            "create it, or name the queue that is there in projects.parentQueue of the profile",
            Patch("create", QUEUE, name, body=project.make_parent(name)),
        )
        return
    parts = at(found, "spec", "resources", default={})
    shut = [part for part in project.RESOURCES if at(parts, part, "quota", default=0) == 0]
    if shut:
        open_ = {part: {"quota": project.UNLIMITED} for part in shut}
        yield _error(
            "DOC026",
            f"queue {name} has a quota of 0 for {', '.join(shut)}",
            "KAI counts work that may not be preempted against each queue above it, too: its pods stay pending in every project",
            f"raise the quota of {name} to what its projects have together, or to -1, which is no bound",
            Patch("merge", QUEUE, name, body={"spec": {"resources": open_}}),
        )


def _quotas(seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    spec = wanted.profile.spec
    if seen.quotas is None or spec.projects.quota != "resourcequota" or not spec.projects.manage:
        return
    live = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in seen.quotas}
    for name in spec.projects.known:
        namespace = spec.projects.namespace.replace("{project}", name)
        made = {
            item["metadata"]["name"]: item
            for item in project.make_objects(name, namespace, wanted.profile)
            if item["kind"] == QUOTA.name
        }
        for own in project.QUOTAS:
            said = at(made.get(own), "spec", "hard", default={})
            now = at(live.get((namespace, own)), "spec", "hard", default={})
            if not now or now == said:
                continue
            yield _warning(
                "DOC017",
                f"the quota of project {name} is {_hard(now)} here, and the profile says {_hard(said)}",
                "the next apply of a spec of this project sets it to the profile's",
                f"correct projects.known.{name} in the profile, or let the apply set it",
            )


def _hard(hard: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(hard.items())) or "none"


CHECKS: Final[tuple[Callable[[Observed, Wanted], Iterator[Finding]], ...]] = (
    _unread,
    _specs,
    _versions,
    _installed,
    _features,
    _settings,
    _scaling,
    _kserve,
    _classes,
    _pools,
    _scheduler,
    _parent,
    _quotas,
)


# What is asked one by one.


def _prometheus(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    metrics = wanted.profile.spec.metrics
    if metrics.adapter == "none":
        # The profile names an address whether or not there is anything at it.
        return
    host = (urlsplit(metrics.prometheus).hostname or "").split(".")
    if len(host) < 3 or host[2] != "svc":  # noqa: PLR2004 - name, namespace, svc
        return
    if _get(cluster, SERVICE, host[0], host[1]) is None:
        yield _warning(
            "DOC018",
            f"there is no service {host[0]} in namespace {host[1]}, where the profile says that Prometheus is",
            "slo has nothing to report, and why and list show no load",
            "correct metrics.prometheus in the profile, or install Prometheus with the monitors of kustomize/metrics",
        )


def _gateway(cluster: Cluster, seen: Observed, _: Wanted) -> Iterator[Finding]:
    network = seen.maps.get("network")
    if network is None:
        return
    name = network.get("ingress-class") or USUAL_GATEWAY
    place = GATEWAYS.get(name)
    if place is not None and _get(cluster, SERVICE, place[1], place[0]) is None:
        yield _error(
            "DOC019",
            f"Knative's ingress class is {name}, and there is no service {place[1]} in namespace {place[0]}",
            "no service gets a URL that answers: they stay not ready",
            "install that gateway, or set ingress-class in config-network to the one that is here",
        )


def _claims(cluster: Cluster, seen: Observed, wanted: Wanted) -> Iterator[Finding]:
    network = seen.maps.get("network")
    if network is None or network.get(CLAIMS) == "true":
        return
    for item in wanted.objects:
        if item["kind"] != "DomainMapping":
            continue
        host, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        claim = _get(cluster, DOMAIN_CLAIM, host)
        if claim is None:
            body = {
                "apiVersion": DOMAIN_CLAIM.api_version,
                "kind": DOMAIN_CLAIM.name,
                "metadata": {"name": host},
                "spec": {"namespace": namespace},
            }
            yield _error(
                "DOC020",
                f"nobody has given {host} to namespace {namespace} (a ClusterDomainClaim)",
                "the DomainMapping stays not ready, and the host name does not answer",
                f"create the claim, or set {CLAIMS} in config-network",
                Patch("create", DOMAIN_CLAIM, host, body=body),
            )
        elif at(claim, "spec", "namespace") != namespace:
            yield _error(
                "DOC020",
                f"{host} belongs to namespace {at(claim, 'spec', 'namespace')} (its ClusterDomainClaim)",
                f"a service in {namespace} never gets it",
                "take another host name, or let its owner give it up",
            )


def _networks(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    for namespace in wanted.namespaces:
        try:
            found = cluster.list(NETWORK_POLICY, namespace).items
        except ForbiddenError:
            continue
        closed = [
            item
            for item in found
            if _selects_all(item) and "Ingress" in at(item, "spec", "policyTypes", default=["Ingress"])
        ]
        if closed and not any(at(item, "spec", "ingress", default=[]) for item in found):
            names = ", ".join(item["metadata"]["name"] for item in closed)
            yield _error(
                "DOC021",
                f"network policy {names} lets nobody reach pods in namespace {namespace}",
                "neither the gateway nor Knative's activator reaches a replica: requests fail, and nothing wakes",
                f"allow ingress from {KNATIVE_NAMESPACE} and from the gateway's namespace",
            )


def _selects_all(policy: Object) -> bool:
    return not at(policy, "spec", "podSelector", default={})


def _security(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    projects = wanted.profile.spec.projects
    for namespace in wanted.namespaces:
        found = _get(cluster, NAMESPACE, namespace)
        level = at(found, "metadata", "labels", POD_SECURITY, default="")
        made = any(item["kind"] == "Namespace" and item["metadata"]["name"] == namespace for item in wanted.objects)
        if found is not None and made and level and level != projects.pod_security:
            yield _warning(
                "DOC022",
                f"namespace {namespace} has the pod security level {level}, and the profile says {projects.pod_security}",
                f"the next apply sets it to {projects.pod_security}",
                f"set projects.podSecurity: {level} in the profile, if that is what is meant",
            )
        if made:
            continue
        for plan in wanted.plans:
            if plan.namespace == namespace:
                for _where, rule in pod_security.refused(plan.spec, wanted.profile.spec, plan.serving, level):
                    yield _error(
                        "DOC022",
                        f"namespace {namespace} has the pod security level {level}, and a pod of {plan.name} {rule.words}",
                        "its pods are refused",
                        rule.fix,
                    )


def _rights(cluster: Cluster, _: Observed, wanted: Wanted) -> Iterator[Finding]:
    """Ask for what apply does: in the namespaces of the specs, else in the caller's own.

    What several workloads share is left as it is where it is there, so only what is missing must be made.
    """
    own = [item for item in wanted.objects if item["kind"] not in SHARED or _missing(cluster, item)]
    kinds = list(dict.fromkeys(kind_of(item) for item in own)) or [KNATIVE, KSERVE]
    for namespace in wanted.namespaces or (cluster.namespace,):
        lacking = [
            f"{verb} {kind.plural}"
            for kind in kinds
            for verb in WRITE
            if not cluster.may(verb, kind, namespace if kind.namespaced else "")
        ]
        if lacking:
            yield _error(
                "DOC023",
                f"you may not {', '.join(lacking)} in namespace {namespace}",
                "apply ends there, with what came before it written",
                "be made a member of the project (ebbtide project create --member), and let projects.manage be false "
                "where namespaces, quotas and classes are somebody else's",
            )
        unseen = [kind.plural for kind in READ if not cluster.may("list", kind, namespace)]
        if unseen:
            yield _warning(
                "DOC023",
                f"you may not list {', '.join(unseen)} in namespace {namespace}",
                "list, describe and why cannot say what becomes of a workload",
                "be made a member of the project (ebbtide project create --member)",
            )


def _missing(cluster: Cluster, item: Object) -> bool:
    metadata = item["metadata"]
    return _get(cluster, kind_of(item), metadata["name"], metadata.get("namespace", "")) is None


def _orphans(cluster: Cluster, seen: Observed, _: Wanted) -> Iterator[Finding]:
    """Find HPAs of ours whose Deployment is gone."""
    for item in seen.hpas or ():
        metadata = item["metadata"]
        if at(metadata, "labels", keys.APP_MANAGED_BY) != "ebbtide" or metadata.get("ownerReferences"):
            continue
        target = str(at(item, "spec", "scaleTargetRef", "name", default=""))
        if _get(cluster, DEPLOYMENT, target, metadata["namespace"]) is None:
            name = f"{metadata['namespace']}/{metadata['name']}"
            yield _warning(
                "DOC024",
                f"HPA {name} scales Deployment {target}, which is not there",
                "it asks for metrics every 15 s for nothing, and would take hold of a new Deployment of that name",
                "delete it, unless its workload is suspended or about to come",
                Patch("delete", HPA, metadata["name"], metadata["namespace"]),
            )


ASKS: Final[tuple[Callable[[Any, Observed, Wanted], Iterator[Finding]], ...]] = (
    _prometheus,
    _gateway,
    _claims,
    _networks,
    _security,
    _rights,
    _orphans,
)


def _get(cluster: Cluster, kind: Kind, name: str, namespace: str = "") -> Object | None:
    """Return an object, None where there is none, an empty one where it cannot be seen."""
    try:
        return cluster.get(kind, name, namespace)
    except MissingError:
        return None
    except ClusterError:
        return {}
