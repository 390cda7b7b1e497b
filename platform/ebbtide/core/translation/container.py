"""The serving container: image, command, environment, resources, probes and security context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import quantities
from ebbtide.core.base.problems import Problem, offer_values, remove_field
from ebbtide.core.spec.rules.containers import CONTAINERS
from ebbtide.core.spec.rules.serving import DEFAULT_PORT
from ebbtide.core.translation import gpu, pod_security, runtimes
from ebbtide.core.translation.objects import apply_merge_patch, prune_nulls
from ebbtide.core.translation.placed_fields import split_command, write_part
from ebbtide.core.translation.plan import Decision, Plan
from ebbtide.core.translation.pods import Pod, PodPatch

if TYPE_CHECKING:
    from ebbtide.core.spec.container import Probe, Variable
    from ebbtide.core.spec.inference import InferenceSpec


#: The resources of a container, and the parts of a pod that they are.
RESOURCES: Final = {"requests": "requests", "limits": "limits", "claims": "container_claims"}
#: Kubernetes' default of a probe's periodSeconds.
DEFAULT_PROBE_PERIOD_SECONDS: Final = 10


def list_words(plan: Plan) -> list[str]:
    """Return the words of command and arguments; none if they cannot be split, which SRV016 reports."""
    try:
        return [*split_command(plan.spec.command or []), *split_command(plan.spec.args or [])]
    except ValueError:
        return []


def choose_pull_policy(plan: Plan) -> str | None:
    """Return the image pull policy: as written, or Always for an image without a fixed tag in a Deployment of KServe.

    KServe writes IfNotPresent, so Kubernetes' default of Always for ``latest`` never applies (github.com/kserve/kserve
    pkg/controller/v1beta1/inferenceservice/reconcilers/deployment, setDefaultPodSpec; config/llmisvcconfig).
    """
    policy, image = plan.spec.image_pull_policy, plan.spec.image
    if policy is not None or not plan.adds_defaults or plan.mode.revisions or image is None or "@" in image:
        return policy
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in {"", "latest"} else None


def make_environment_patch(plan: Plan) -> PodPatch:
    """Return the variables in their written order, since later ones may refer to earlier ones."""
    env = [render_variable(variable) for variable in plan.spec.environment_variables if not variable.exclude]
    return PodPatch("environment", ("spec", "environmentVariables"), env=env)


def render_variable(variable: Variable) -> dict[str, Any]:
    """Return an environment variable of a container."""
    if variable.secret is not None:
        source = {"secretKeyRef": {"name": variable.secret.name, "key": variable.secret.key}}
    elif variable.config_map is not None:
        source = {"configMapKeyRef": {"name": variable.config_map.name, "key": variable.config_map.key}}
    elif variable.pod_field_ref is not None:
        source = {"fieldRef": {"fieldPath": variable.pod_field_ref.path}}
    else:
        return {"name": variable.name, **({} if variable.value is None else {"value": variable.value})}
    return {"name": variable.name, "valueFrom": source}


def make_account_patch(plan: Plan) -> PodPatch:
    """Return the pods' service account."""
    name = plan.spec.service_account_name or ""
    return PodPatch("account", ("spec", "serviceAccountName"), service_account_name=name)


def make_resources_patch(plan: Plan) -> PodPatch:
    """Return CPU, memory and extended resources."""
    compute = plan.spec.compute
    requests, limits = (
        prune_nulls(write_part(plan.spec, f"container.resources.{name}")) for name in ("requests", "limits")
    )
    for extended in compute.extended_resources:
        amount = quantities.parse_whole_quantity(extended.quantity)
        # No amount of GPUs next to a GPU request remains from before that request.
        leftover = not amount and plan.gpu is not None and gpu.counts_gpus(extended.resource, plan.pool)
        if not extended.exclude and not leftover:
            limits[extended.resource] = str(amount)
    return PodPatch(by="resources", cause=("spec", "compute"), requests=requests, limits=limits)


def list_container_decisions(plan: Plan) -> Iterator[Decision]:
    """Yield the choices for container fields that the spec leaves out."""
    spec = plan.spec
    if spec.serving_port.container is None and spec.model is None and plan.adds_defaults:
        because = f"the spec sets no port, and {DEFAULT_PORT} is Knative's default"
        yield Decision("port", f"{DEFAULT_PORT}", because, ("spec.servingPort.container",))
    if spec.image_pull_policy is None and choose_pull_policy(plan) is not None:
        because = f"the image has no fixed tag, and the default of {plan.mode.title}, IfNotPresent, would reuse the image cached on a node"
        yield Decision("pull policy", "Always", because, ("spec.image",))
    if may_run_as_root(plan):
        because = "neither the spec nor the profile forbids root; the container has no capabilities and cannot gain any"
        yield Decision("user", "root allowed", because, ("spec.security.runAsNonRoot",))


def may_run_as_root(plan: Plan) -> bool:
    """Return whether the container may run as root because neither the spec nor the profile sets its user."""
    rules = plan.spec.security
    return (
        rules.run_as_non_root is None
        and not rules.run_as_uid
        and pod_security.requires_non_root(plan.spec, plan.cluster) is False
    )


def make_security_patch(plan: Plan) -> PodPatch:
    """Return the restricted security context. The container may run as root unless the spec or the profile forbids it."""
    return PodPatch(
        by="security",
        cause=("spec", "security", "supplementalGroups"),
        container_security=_make_container_security(plan),
        pod_security=prune_nulls(write_part(plan.spec, "pod.securityContext")),
    )


def _make_container_security(plan: Plan) -> dict[str, Any]:
    rules, defaults = plan.spec.security, plan.adds_defaults
    added = prune_nulls(write_part(plan.spec, "container.securityContext.capabilities"))
    root = pod_security.requires_non_root(plan.spec, plan.cluster)
    security = {
        "allowPrivilegeEscalation": False if defaults else None,
        "capabilities": {"drop": ["ALL"], **added} if defaults else added or None,
        **write_part(plan.spec, "container.securityContext"),
        "runAsNonRoot": root if defaults else rules.run_as_non_root,
        "seccompProfile": {"type": "RuntimeDefault"} if defaults else None,
    }
    return {name: value for name, value in security.items() if value is not None}


def check(plan: Plan) -> Iterator[Problem]:
    """Reject user 0 or a pod that the profile or the namespace forbids."""
    rules, forbidden = plan.spec.security, plan.cluster.pods.run_as_non_root
    yield from pod_security.check(plan)
    yield from _check_account(plan)
    if not plan.adds_defaults:
        return
    if forbidden and rules.run_as_non_root is None and rules.run_as_uid == 0:
        message = "user 0 is root, and the cluster profile forbids containers that run as root (pods.runAsNonRoot)"
        yield Problem("SEC005", ("spec", "security", "runAsUid"), message, "set runAsUid to a user other than 0")


def _check_account(plan: Plan) -> Iterator[Problem]:
    """Reject a service account that the profile does not allow, or that replaces the one of the model's credentials."""
    name, allowed = plan.spec.service_account_name, plan.cluster.projects.service_accounts
    if name is None:
        return
    if allowed and name not in allowed:
        message = f"the cluster profile does not allow service account {name}"
        fix = f"use one of {', '.join(allowed)}, or add it to projects.serviceAccounts of the profile"
        yield Problem("SEC018", ("spec", "serviceAccountName"), message, fix, fixes=offer_values(allowed))
    if plan.spec.model is not None and plan.spec.model.storage_secret is not None:
        message = (
            "storageSecret and serviceAccountName are mutually exclusive: KServe reads a model's credentials from the Secrets of "
            "the pods' service account"
        )
        fix = f"remove storageSecret, and add the Secret to the secrets of service account {name}"
        yield Problem("SRV039", ("spec", "model", "storageSecret"), message, fix, fixes=remove_field())


def _render_probe(probe: Probe | None, port: int | None, default_period: int | None = None) -> dict[str, Any] | None:
    if probe is None:
        return None
    handler = probe.handler
    rendered: dict[str, Any] = {}
    if handler.http_get is not None:
        get = handler.http_get
        rendered["httpGet"] = {"path": get.path, "port": get.port or port, "host": get.host, "scheme": get.scheme}
    elif handler.tcp_socket is not None:
        rendered["tcpSocket"] = {"port": handler.tcp_socket.port or port}
    else:
        assert handler.grpc is not None
        rendered["grpc"] = {"port": handler.grpc.port or port, "service": handler.grpc.service}
    return prune_nulls(
        {
            **rendered,
            "initialDelaySeconds": probe.initial_delay_seconds,
            "periodSeconds": default_period if probe.period_seconds is None else probe.period_seconds,
            "timeoutSeconds": probe.timeout_seconds,
            "successThreshold": probe.success_threshold,
            "failureThreshold": probe.failure_threshold,
        }
    )


def _render_readiness_probe(probe: Probe | None, port: int | None) -> dict[str, Any] | None:
    """Return the readiness probe, with Kubernetes' default period if it has a timeout or a failure threshold.

    A probe without a period is run by Knative's own fast prober, for which the webhook rejects a timeout and a
    failure threshold.
    """
    slow = probe is not None and (probe.timeout_seconds or probe.failure_threshold)
    return _render_probe(probe, port, DEFAULT_PROBE_PERIOD_SECONDS if slow else None)


def make_container(plan: Plan, pod: Pod, port_name: str | None) -> dict[str, Any]:
    """Return the container without the fields that are not set. ``port_name`` sets the protocol: ``h2c`` is gRPC for Knative."""
    spec = plan.spec
    port = runtimes.find_port(spec) if plan.adds_defaults else spec.serving_port.container
    # Knative fills in a probe's port. A Deployment does not, and KServe's runtimes listen on the default port.
    probed = (port if plan.adds_defaults else None) or (None if plan.mode.revisions else port or plan.mode.port)
    probes = spec.probes
    parts = pod.parts
    resources = {name: parts.get(part) for name, part in RESOURCES.items() if part in parts}
    fields = write_part(spec, "container")
    container = {
        "name": plan.container,
        **fields,
        "imagePullPolicy": choose_pull_policy(plan),
        "args": [*(fields["args"] or ()), *parts["args"]] if "args" in parts else fields["args"],
        "ports": _make_ports(plan, port, port_name),
        "env": parts.get("env"),
        "resources": resources or None,
        "readinessProbe": _render_readiness_probe(probes.readiness, probed),
        "livenessProbe": _render_probe(probes.liveness, probed),
        "startupProbe": _render_probe(probes.startup, probed),
        "volumeMounts": parts.get("mounts"),
        "securityContext": parts.get("container_security"),
    }
    return {name: value for name, value in container.items() if value is not None}


def secure_containers(containers: Sequence[dict[str, Any]] | None, pod: Pod) -> list[dict[str, Any]]:
    """Return containers with the isolation of the serving container wherever they do not set their own, without empty fields."""
    if not containers:
        return []
    security = pod.parts.get("container_security", {})
    isolation = ("allowPrivilegeEscalation", "runAsNonRoot", "seccompProfile")
    shared = {name: security[name] for name in isolation if name in security}
    drop = security.get("capabilities", {}).get("drop")
    if drop is not None:
        shared["capabilities"] = {"drop": drop}
    result = []
    for item in containers:
        own = item.get("securityContext")
        merged = apply_merge_patch(shared, own if isinstance(own, dict) else {})
        result.append(prune_nulls({**item, "securityContext": merged} if merged else item))
    return result


def secure_component(component: dict[str, Any] | None, pod: Pod) -> dict[str, Any] | None:
    """Return a transformer or an explainer whose containers have the isolation of the serving container."""
    if component is None:
        return None
    secured: dict[str, Any] = {
        name: secure_containers(component[name], pod) for name in CONTAINERS if component.get(name) is not None
    }
    return {**component, **secured}


def _make_ports(plan: Plan, port: int | None, port_name: str | None) -> list[dict[str, Any]] | None:
    """Return the port. Without Ebbtide's defaults, its name is rendered only for a protocol that the spec sets."""
    if plan.adds_defaults:
        return None if port is None else [{"name": port_name, "containerPort": port}]
    protocol = plan.spec.serving_port.protocol
    if port is None and protocol is None:
        return None
    named = {} if protocol is None else {"name": port_name}
    return [named if port is None else {**named, "containerPort": port}]


def render_pull_secrets(spec: InferenceSpec) -> list[dict[str, str]] | None:
    """Return the names of the pull secrets, or None."""
    return [{"name": secret.name} for secret in spec.image_pull_secrets if not secret.exclude] or None


def render_pod_fields(plan: Plan, pod: Pod) -> dict[str, Any]:
    """Return the pod's fields other than its containers, without those that are not set."""
    parts = pod.parts
    init_containers = [*parts.get("init_containers", ()), *plan.spec.init_containers]
    fields = {
        "initContainers": secure_containers(init_containers, pod) or None,
        "serviceAccountName": parts.get("service_account_name"),
        "imagePullSecrets": render_pull_secrets(plan.spec),
        "schedulerName": parts.get("scheduler_name"),
        "priorityClassName": parts.get("priority_class_name"),
        "runtimeClassName": parts.get("runtime_class_name"),
        "nodeSelector": parts.get("node_selector"),
        "affinity": parts.get("affinity"),
        "tolerations": parts.get("tolerations"),
        "topologySpreadConstraints": parts.get("topology_spread"),
        "securityContext": parts.get("pod_security"),
        "resourceClaims": parts.get("resource_claims"),
        "volumes": parts.get("volumes"),
    }
    return {name: value for name, value in fields.items() if value is not None}
