"""The derivation of a spec from a live object, field by field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.adopt import pod_fields
from ebbtide.core.adopt.scaling_fields import derive_scaling
from ebbtide.core.adopt.view import filter_mappings, filter_strings
from ebbtide.core.base import keys, names
from ebbtide.core.base.annotations import parse_whole_seconds
from ebbtide.core.base.paths import get_at
from ebbtide.core.readers.reading import make_document
from ebbtide.core.readers.table import Draft
from ebbtide.core.spec.rules.serving import DEFAULT_PORT
from ebbtide.core.translation import lora, priority
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.modes import SERVING_MODES
from ebbtide.core.translation.placed_fields import PLACED
from ebbtide.core.translation.placement import selects_by_default
from ebbtide.core.translation.quotas import QUOTA_BACKENDS
from ebbtide.core.translation.serving import llm
from ebbtide.core.translation.serving.kserve import find_default_mode

if TYPE_CHECKING:
    from ebbtide.core.adopt.view import ObjectView
    from ebbtide.core.base.problems import Path
    from ebbtide.core.profile.models import NodePool, ProfileSpec
    from ebbtide.core.translation.gpu.backend import GpuFields

#: Port names for gRPC, of Knative and of KServe Standard.
GRPC: Final = {"h2c", "grpc"}
#: The names of the port for HTTP and for gRPC, by kind of object.
PORT_NAMES: Final = {
    "knative": ("http1", "h2c"),
    "kserve": ("http1", "h2c"),
    "kserve-standard": ("http", "grpc"),
    "llm": ("http", "grpc"),
}


def adds_defaults(draft: Draft) -> bool:
    """Return whether Ebbtide adds its defaults to a draft."""
    return draft.spec.get("defaults") != "none"


def derive_spec(view: ObjectView, cluster: ProfileSpec, chosen: tuple[str, ...], *, defaults: bool = True) -> Draft:
    """Return the spec of an object under the assumption that it uses the node pools ``chosen`` (none: the first).

    With ``defaults``, the object is assumed to have Ebbtide's defaults, which a spec leaves out.
    """
    draft = Draft(make_document(None, {}), cluster=cluster)
    if not defaults:
        draft.set_field(("spec", "defaults"), "none", ())
    service = None if view.predictor is None else ("spec",)
    for part, rows in PLACED.items():
        name, *inside = part.split(".")
        base: Path | None = service if name == "service" else getattr(view, name)
        if base is None:
            continue
        for row in rows:
            path = (*base, *inside, row.key)
            value = get_at(view.obj, *path)
            if row.field == "model.format":
                # A problem of the format, which a model needs, names the object's field also if it is missing.
                draft.origins["spec", "model", "format"] = path
            draft.set_nonempty(f"spec.{row.field}", value if row.read is None else row.read(value), path)
    for base, key, field in (
        (view.pod, "serviceAccountName", "serviceAccountName"),
        (view.predictor, "storageUris", "model.uris"),
        (None if view.language_model is None else ("spec",), "rolloutStrategy", "deploymentStrategy.rollingUpdate"),
    ):
        if base is not None:
            draft.set_nonempty(f"spec.{field}", get_at(view.obj, *base, key), (*base, key))
    path = (*view.pod, "initContainers")
    draft.set_nonempty("spec.initContainers", pod_fields.drop_waiter(get_at(view.obj, *path)), path)
    if view.language_model is not None and lora.is_known(cluster):
        path = (*view.language_model, "lora")
        draft.set_nonempty("spec.lora", lora.read_rendered(get_at(view.obj, *path)), path)
    by_name = {pool.name: pool for pool in cluster.node_pools}
    pools = tuple(by_name[name] for name in chosen)
    default_pool = pools[0] if pools else next(iter(cluster.node_pools), None)
    shared = pod_fields.read_gpu_fields(view, default_pool) if default_pool is not None else None
    derive_metadata(view, draft)
    _derive_serving(view, draft)
    pod_fields.derive_environment(view, draft)
    pod_fields.derive_probes(view, draft)
    _derive_access(view, draft)
    derive_scaling(view, draft)
    _derive_traffic(view, draft)
    _derive_priority(view, draft)
    pod_fields.derive_compute(view, draft, shared)
    pod_fields.derive_pod_metadata(view, draft, shared)
    _derive_security(view, draft)
    draft.set_nonempty("spec.nodePools", list(chosen), (*view.pod, "nodeSelector"))
    pod_fields.derive_placement(view, draft, pools or _list_default_pools(default_pool, shared, defaults=defaults))
    pod_fields.derive_volumes(view, draft)
    pod_fields.derive_weights(view, draft)
    containers = filter_mappings(view.value_at(view.pod, "containers"))
    if view.container is not None and view.container != view.model:
        containers = [item for item in containers if item is not get_at(view.obj, *view.container)]
    draft.set_nonempty("spec.sidecars", containers, (*view.pod, "containers"))
    return draft


def _list_default_pools(pool: NodePool | None, shared: GpuFields | None, *, defaults: bool) -> tuple[NodePool, ...]:
    """Return the default node pool if the GPU request of a spec without node pools selects it."""
    if pool is None or shared is None:
        return ()
    whole = shared.compute.keys() == {"gpuDevicesRequest"}
    return (pool,) if selects_by_default(pool, whole=whole, defaults=defaults) else ()


def derive_metadata(view: ObjectView, draft: Draft) -> None:
    """Derive name, namespace or project, and the labels and annotations of the object itself."""
    metadata = draft.native["metadata"]
    metadata["name"] = get_at(view.obj, "metadata", "name")
    namespace = get_at(view.obj, "metadata", "namespace")
    project = _match_project(view, namespace, draft.cluster)
    labeled = get_at(view.obj, "metadata", "labels", keys.APP_PART_OF) == project
    if project is not None and labeled:
        draft.set_nonempty("spec.project", project, ("metadata", "namespace"))
    elif namespace and namespace != draft.cluster.projects.default_namespace:
        metadata["namespace"] = namespace
    rendered = _match_enforcement(view, draft.cluster)[3]
    if view.predictor is not None and view.serving != find_default_mode(draft.cluster):
        rendered.add(keys.DEPLOYMENT_MODE)
    if "project" in draft.spec:
        rendered.add(keys.APP_PART_OF)
    for part in ("labels", "annotations"):
        entries = {
            key: value
            for key, value in pod_fields.list_settable_entries(
                filter_strings(get_at(view.obj, "metadata", part)),
                labels=part == "labels",
                defaults=draft.spec.get("defaults"),
            )
            if key not in rendered
        }
        if entries:
            metadata[part] = entries
            draft.origins["metadata", part] = ("metadata", part)


def _match_project(view: ObjectView, namespace: Any, cluster: ProfileSpec) -> str | None:
    """Return the project that the namespace belongs to, None if it is not a project's namespace."""
    projects = cluster.projects
    if not isinstance(namespace, str):
        return None
    prefix, _, suffix = projects.namespace.partition("{project}")
    match = re.fullmatch(f"{re.escape(prefix)}(.+?){re.escape(suffix)}", namespace)
    if match is None or names.LABEL.fullmatch(match[1]) is None:
        return None
    if projects.closed and match[1] not in projects.known:
        return None
    labels = filter_strings(view.value_at(view.pod_metadata, "labels"))
    required = [keys.KAI_QUEUE] if cluster.scheduling.scheduler == priority.KAI else []
    required += filter(None, [QUOTA_BACKENDS[projects.quota].queue_label])
    # Pods of a project with a queue have its label. Without the label, the spec set the namespace directly.
    return match[1] if all(labels.get(label) == match[1] for label in required) else None


def _derive_serving(view: ObjectView, draft: Draft) -> None:
    """Derive the port, the timeouts, the pull secrets, and the kind of object if ``auto`` would choose another."""
    automatic = "kserve" if view.model is not None else "knative"
    if view.serving != automatic or any(BACKENDS[pool.backend].claims for pool in draft.cluster.node_pools):
        draft.set_nonempty("spec.serving", view.serving, ("metadata", "annotations"))
    if view.container is not None:
        ports = (*view.container, "ports", 0)
        number, name = view.value_at(ports, "containerPort"), view.value_at(ports, "name")
        if view.model is not None or number != DEFAULT_PORT or not adds_defaults(draft):
            draft.set_nonempty("spec.servingPort.container", number, (*ports, "containerPort"))
        http, grpc = PORT_NAMES[view.serving]
        if name == grpc or (adds_defaults(draft) and isinstance(name, str) and name in GRPC):
            draft.set_nonempty("spec.servingPort.protocol", "grpc", (*ports, "name"))
        elif name == http and not adds_defaults(draft):
            draft.set_nonempty("spec.servingPort.protocol", "http", (*ports, "name"))
        own_name = view.value_at(view.container, "name")
        if view.serving == "knative" and own_name != SERVING_MODES["knative"].container:
            draft.set_nonempty("spec.containerName", own_name, (*view.container, "name"))
    if view.language_model is not None:
        # The object has no format: vLLM loads this one.
        draft.set_nonempty("spec.model.format", llm.FORMAT, view.language_model)
    timeout = view.value_at(view.timeout)
    if view.timeout is not None and timeout != 0:
        draft.set_nonempty("spec.servingConfiguration.requestTimeoutSeconds", timeout, view.timeout)
    if view.concurrency is not None:
        limit = view.value_at(view.concurrency)
        draft.set_nonempty("spec.autoscaling.concurrencyHardLimit", limit, view.concurrency)
    deadline = parse_whole_seconds(view.read_annotations().get(keys.PROGRESS_DEADLINE))
    path = (*view.pod_metadata, "annotations", keys.PROGRESS_DEADLINE)
    draft.set_nonempty("spec.servingConfiguration.initializationTimeoutSeconds", deadline, path)
    secrets = filter_mappings(view.value_at(view.pod, "imagePullSecrets"))
    pull_secrets = [{"name": secret["name"]} for secret in secrets if secret.keys() == {"name"}]
    draft.set_nonempty("spec.imagePullSecrets", pull_secrets, (*view.pod, "imagePullSecrets"))


#: The authorization types that list names: whether they have users, and whether they have groups.
NAMED: Final = {"authorizedUsers": (True, False), "authorizedGroups": (False, True)}


def _match_enforcement(view: ObjectView, cluster: ProfileSpec) -> tuple[str | None, list[str], list[str], set[str]]:
    """Return the access that the profile's labels and annotations show: authorization type, users, groups, matching keys."""
    for kind, enforcer in cluster.access.enforces.items():
        lists: dict[str, str] = {}
        rows = [("labels", enforcer.labels), ("annotations", enforcer.annotations)]
        if any(source for _, source in rows) and all(
            _match_template(template, filter_strings(get_at(view.obj, "metadata", part)).get(key), lists)
            for part, source in rows
            for key, template in source.items()
        ):
            written = {key for _, source in rows for key in source}
            users, groups = (
                [entry for entry in lists.get(name, "").split(",") if entry] for name in ("users", "groups")
            )
            if kind not in NAMED or NAMED[kind] == (bool(users), bool(groups)):
                return kind, users, groups, written
    return None, [], [], set()


def _match_template(template: str, text: str | None, lists: dict[str, str]) -> bool:
    """Return whether ``text`` matches ``template``, and add its users and groups to ``lists``."""
    parts = re.split(r"(\{users\}|\{groups\})", template)
    pattern = "".join("(.*)" if part in {"{users}", "{groups}"} else re.escape(part) for part in parts)
    match = re.fullmatch(pattern, text) if text is not None else None
    if match is None:
        return False
    placeholders = [part[1:-1] for part in parts if part in {"{users}", "{groups}"}]
    lists.update(zip(placeholders, match.groups(), strict=True))
    return True


def _derive_access(view: ObjectView, draft: Draft) -> None:
    """Derive the authorization type with its users and groups, and cluster-local access."""
    kind, users, groups, _ = _match_enforcement(view, draft.cluster)
    if kind is not None and kind != "public":
        draft.set_nonempty("spec.servingPort.authorizationType", kind, ("metadata",))
        draft.set_nonempty("spec.servingPort.authorizedUsers", users, ("metadata",))
        draft.set_nonempty("spec.servingPort.authorizedGroups", groups, ("metadata",))
    if view.serving == "llm":
        # Without a router, KServe creates no route.
        local = get_at(view.obj, "spec", "router") is None
        draft.set_nonempty("spec.servingPort.clusterLocalAccessOnly", True if local else None, ("spec",))
        return
    key = keys.KNATIVE_VISIBILITY if view.serving == "knative" else keys.KSERVE_VISIBILITY
    if get_at(view.obj, "metadata", "labels", key) == keys.CLUSTER_LOCAL:
        draft.set_nonempty("spec.servingPort.clusterLocalAccessOnly", True, ("metadata", "labels", key))


def _derive_traffic(view: ObjectView, draft: Draft) -> None:
    """Derive the rollout duration, the canary percentage and the revision that gets the remaining traffic."""
    path = ("metadata", "annotations", keys.ROLLOUT_DURATION)
    draft.set_nonempty("spec.traffic.rolloutDurationSeconds", parse_whole_seconds(get_at(view.obj, *path)), path)
    targets = filter_mappings(get_at(view.obj, "spec", "traffic")) if view.predictor is None else []
    newest = [target for target in targets if target.get("latestRevision") is True]
    others = [target for target in targets if "revisionName" in target]
    if len(newest) == 1 and len(others) <= 1 and len(targets) == len(newest) + len(others):
        draft.set_nonempty("spec.traffic.canaryPercent", newest[0].get("percent"), ("spec", "traffic"))
        if others:
            draft.set_nonempty("spec.traffic.stableRevision", others[0]["revisionName"], ("spec", "traffic"))


def _derive_priority(view: ObjectView, draft: Draft) -> None:
    class_name = view.value_at(view.pod, "priorityClassName")
    path = (*view.pod, "priorityClassName")
    if not isinstance(class_name, str) or (class_name == priority.DEFAULT and adds_defaults(draft)):
        return
    for name in priority.LEVELS:
        for preemptible in (True, False):
            if class_name == priority.make_level(name, preemptible).name:
                draft.set_nonempty("spec.priorityClass", name, path)
                draft.set_nonempty("spec.preemptibility", "preemptible" if preemptible else None, path)
                return
    if class_name in draft.cluster.scheduling.classes:
        draft.set_nonempty("spec.priorityClass", class_name, path)


def _derive_security(view: ObjectView, draft: Draft) -> None:
    """Derive runAsNonRoot if it differs from the default, which for a model is that of its serving runtime."""
    container = view.container or ()
    path = (*container, "securityContext", "runAsNonRoot")
    run_as_non_root = view.value_at(view.container, "securityContext", "runAsNonRoot")
    default = draft.cluster.pods.run_as_non_root or (None if "model" in container else False)
    if run_as_non_root is not default or not adds_defaults(draft):
        draft.set_nonempty("spec.security.runAsNonRoot", run_as_non_root, path)
