"""Rules for the container's environment variables, probes and security context."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import Problem, offer_values, remove_field, set_value
from ebbtide.spec.rules.naming import LABEL_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.spec.inference import Inference

ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
#: Pod fields that a variable can refer to, in addition to a label or annotation by its key
#: (k8s.io/kubernetes pkg/apis/core/validation/validation.go, validEnvDownwardAPIFieldPathExpressions).
POD_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
OF_POD: Final = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
LARGEST_ID: Final = 2**31 - 1


def check_environment(inference: Inference) -> Iterator[Problem]:
    """Check that each variable has a valid name and exactly one source."""
    index_by_name: dict[str, int] = {}
    for index, variable in enumerate(inference.spec.environment_variables):
        where = ("spec", "environmentVariables", index)
        if variable.exclude:
            continue
        sources = [
            field
            for field, value in (
                ("value", variable.value),
                ("secret", variable.secret),
                ("configMap", variable.config_map),
                ("podFieldRef", variable.pod_field_ref),
                ("userCredential", variable.user_credential),
            )
            if value is not None
        ]
        if len(sources) != 1:
            yield Problem(
                "ENV001",
                where,
                f"{variable.name} has {'no source' if not sources else 'several sources: ' + ', '.join(sources)}",
                "set exactly one of value, secret, configMap and podFieldRef",
            )
        elif variable.user_credential is not None:
            yield Problem(
                "ENV003",
                (*where, "userCredential"),
                f"{variable.name} refers to a credential of a Run:ai user, which is available only in Run:ai's control plane",
                "store the value in a Secret of the project and use secret: {name, key}",
            )
        elif variable.pod_field_ref is not None and not _is_pod_field(variable.pod_field_ref.path):
            yield Problem(
                "ENV007",
                (*where, "podFieldRef", "path"),
                f"invalid pod field {variable.pod_field_ref.path!r}: an environment variable cannot refer to it",
                f"use one of {', '.join(POD_FIELDS)}, metadata.labels['key'] or metadata.annotations['key']",
                fixes=offer_values(POD_FIELDS),
            )
        if ENV_NAME.fullmatch(variable.name) is None:
            yield Problem(
                "ENV005",
                (*where, "name"),
                f"invalid environment variable name {variable.name!r}",
                "use letters, digits and _, starting with a letter or _",
            )
        elif variable.name in index_by_name:
            yield Problem(
                "ENV004",
                (*where, "name"),
                f"duplicate environment variable {variable.name} (also in environmentVariables[{index_by_name[variable.name]}])",
                "keep one of the entries",
            )
        index_by_name.setdefault(variable.name, index)


def _is_pod_field(path: str) -> bool:
    by_key = OF_POD.fullmatch(path)
    if by_key is None:
        return path in POD_FIELDS
    kind, key = by_key.groups()
    return LABEL_KEY.fullmatch(key if kind == "labels" else key.lower()) is not None


def check_security(inference: Inference) -> Iterator[Problem]:
    """Check the container against the restricted Pod Security Standard; running as root may be allowed."""
    rules = inference.spec.security
    where = ("spec", "security")
    for index, capability in enumerate(rules.capabilities):
        if capability != "NET_BIND_SERVICE":
            yield Problem(
                "SEC001",
                (*where, "capabilities", index),
                f"capability {capability} is not allowed by the restricted Pod Security Standard",
                "remove it; only NET_BIND_SERVICE may be added",
                fixes=remove_field(),
            )
    if rules.seccomp_profile_type in {"Unconfined", "Localhost"}:
        yield Problem(
            "SEC002",
            (*where, "seccompProfileType"),
            f"seccomp profile type {rules.seccomp_profile_type} is "
            + (
                "not allowed by the restricted Pod Security Standard"
                if rules.seccomp_profile_type == "Unconfined"
                else "not supported: Run:ai's spec has no field for the profile file"
            ),
            "use RuntimeDefault",
            fixes=set_value("RuntimeDefault"),
        )
    if rules.uid_gid_source == "fromIdpToken":
        yield Problem(
            "SEC004",
            (*where, "uidGidSource"),
            "uidGidSource fromIdpToken is not supported: no identity provider is available",
            "use fromTheImage, or custom with runAsUid and runAsGid",
        )
    if rules.uid_gid_source == "custom" and rules.run_as_uid is None:
        yield Problem("SEC004", (*where, "uidGidSource"), "uidGidSource custom requires runAsUid", "set runAsUid")
    if rules.uid_gid_source == "fromTheImage":
        for field, value in (
            ("runAsUid", rules.run_as_uid),
            ("runAsGid", rules.run_as_gid),
            ("supplementalGroups", rules.supplemental_groups),
        ):
            if value is not None:
                yield Problem(
                    "SEC004",
                    (*where, field),
                    f"{field} contradicts uidGidSource: fromTheImage",
                    f"set uidGidSource: custom, or remove {field}",
                    fixes=set_value("custom", "uidGidSource") + remove_field(),
                )
    groups = (rules.supplemental_groups or "").replace(";", ",")
    if any(text.strip() and int(text) > LARGEST_ID for text in groups.split(",")):
        yield Problem(
            "SEC004", (*where, "supplementalGroups"), "a group ID is out of range", f"use IDs of at most {LARGEST_ID}"
        )
    if rules.run_as_non_root and rules.run_as_uid == 0:
        yield Problem(
            "SEC005",
            (*where, "runAsUid"),
            "runAsNonRoot does not allow user 0 (root)",
            "set another runAsUid, or set runAsNonRoot: false",
            fixes=set_value(False, "runAsNonRoot"),
        )


def check_probes(inference: Inference) -> Iterator[Problem]:
    """Check that each probe has exactly one handler, and the values that Kubernetes accepts for its type."""
    all_probes = inference.spec.probes
    serving_port = inference.spec.serving_port.container
    for field, probe in (
        ("readiness", all_probes.readiness),
        ("liveness", all_probes.liveness),
        ("startup", all_probes.startup),
    ):
        if probe is None:
            continue
        handler = probe.handler
        where = ("spec", "probes", field)
        if (
            handler.grpc is not None
            and handler.grpc.port is None
            and serving_port is None
            and inference.spec.model is not None
        ):
            yield Problem(
                "PRB003",
                (*where, "handler", "grpc"),
                f"the gRPC {field} probe has no port, and the gRPC port of the model's runtime is unknown",
                "set handler.grpc.port",
            )
        checks = [check for check in (handler.http_get, handler.tcp_socket, handler.grpc) if check is not None]
        if len(checks) != 1:
            yield Problem(
                "PRB001",
                (*where, "handler"),
                f"the {field} probe has {len(checks) or 'no'} handlers",
                "set exactly one of httpGet, tcpSocket and grpc",
            )
        if field != "readiness" and probe.success_threshold not in {None, 1}:
            yield Problem(
                "PRB002",
                (*where, "successThreshold"),
                f"successThreshold of a {field} probe must be 1",
                "remove successThreshold",
                fixes=remove_field(),
            )
