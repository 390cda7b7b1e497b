"""The container's environment, probes and security context."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import Problem
from ebbtide.spec.rules.naming import LABEL_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.spec.inference import Inference

ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
#: Fields of a pod that a variable can have (k8s.io/kubernetes pkg/apis/core/validation/validation.go,
#: validEnvDownwardAPIFieldPathExpressions), beside one label or annotation by its key.
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


def environment(inference: Inference) -> Iterator[Problem]:
    """Each variable has one source and a name that can be set."""
    seen: dict[str, int] = {}
    for index, item in enumerate(inference.spec.environment_variables):
        where = ("spec", "environmentVariables", index)
        if item.exclude:
            continue
        sources = [
            field
            for field, value in (
                ("value", item.value),
                ("secret", item.secret),
                ("configMap", item.config_map),
                ("podFieldRef", item.pod_field_ref),
                ("userCredential", item.user_credential),
            )
            if value is not None
        ]
        if len(sources) != 1:
            yield Problem(
                "ENV001",
                where,
                f"{item.name} has {'no value' if not sources else 'several: ' + ', '.join(sources)}",
                "give it exactly one of value, secret, configMap and podFieldRef",
            )
        elif item.user_credential is not None:
            yield Problem(
                "ENV003",
                (*where, "userCredential"),
                f"{item.name} comes from a Run:ai user's credentials, which only Run:ai's control plane has",
                "put the value into a Secret of the project and use secret: {name, key}",
            )
        elif item.pod_field_ref is not None and not _is_pod_field(item.pod_field_ref.path):
            yield Problem(
                "ENV007",
                (*where, "podFieldRef", "path"),
                f"{item.pod_field_ref.path!r} is no field of the pod that a variable can have",
                f"use one of {', '.join(POD_FIELDS)}, metadata.labels['key'] or metadata.annotations['key']",
            )
        if ENV_NAME.fullmatch(item.name) is None:
            yield Problem(
                "ENV005",
                (*where, "name"),
                f"{item.name!r} is no name for a variable",
                "use letters, digits and _, a letter or _ first",
            )
        elif item.name in seen:
            yield Problem(
                "ENV004",
                (*where, "name"),
                f"{item.name} is set twice (also as environmentVariables[{seen[item.name]}])",
                "keep one",
            )
        seen.setdefault(item.name, index)


def _is_pod_field(path: str) -> bool:
    by_key = OF_POD.fullmatch(path)
    if by_key is None:
        return path in POD_FIELDS
    kind, key = by_key.groups()
    return LABEL_KEY.fullmatch(key if kind == "labels" else key.lower()) is not None


def security(inference: Inference) -> Iterator[Problem]:
    """The container stays within Pod Security's restricted rule, but for running as root where that is allowed."""
    rules = inference.spec.security
    where = ("spec", "security")
    for index, capability in enumerate(rules.capabilities):
        if capability != "NET_BIND_SERVICE":
            yield Problem(
                "SEC001",
                (*where, "capabilities", index),
                f"capability {capability} is outside the restricted rule",
                "remove it; NET_BIND_SERVICE alone may be added",
            )
    if rules.seccomp_profile_type in {"Unconfined", "Localhost"}:
        yield Problem(
            "SEC002",
            (*where, "seccompProfileType"),
            f"seccomp {rules.seccomp_profile_type} is "
            + (
                "outside the restricted rule"
                if rules.seccomp_profile_type == "Unconfined"
                else "incomplete: Run:ai's spec names no profile file"
            ),
            "use RuntimeDefault",
        )
    if rules.uid_gid_source == "fromIdpToken":
        yield Problem(
            "SEC004",
            (*where, "uidGidSource"),
            "there is no identity provider to take the user's id from",
            "use fromTheImage, or custom with runAsUid and runAsGid",
        )
    if rules.uid_gid_source == "custom" and rules.run_as_uid is None:
        yield Problem("SEC004", (*where, "uidGidSource"), "custom needs the id", "set runAsUid")
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
                    "use custom, or remove it",
                )
    groups = (rules.supplemental_groups or "").replace(";", ",")
    if any(text.strip() and int(text) > LARGEST_ID for text in groups.split(",")):
        yield Problem(
            "SEC004", (*where, "supplementalGroups"), "a group's id is out of range", f"use at most {LARGEST_ID}"
        )
    if rules.run_as_non_root and rules.run_as_uid == 0:
        yield Problem(
            "SEC005",
            (*where, "runAsUid"),
            "runAsNonRoot refuses user 0",
            "choose another user, or runAsNonRoot: false",
        )


def probes(inference: Inference) -> Iterator[Problem]:
    """Each probe asks in exactly one way."""
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
                f"the {field} probe asks by gRPC, and which port the model's runtime serves that on is not known here",
                "set handler.grpc.port",
            )
        ways = [way for way in (handler.http_get, handler.tcp_socket, handler.grpc) if way is not None]
        if len(ways) != 1:
            yield Problem(
                "PRB001",
                (*where, "handler"),
                f"the {field} probe asks in {len(ways)} ways",
                "set exactly one of httpGet, tcpSocket, grpc",
            )
        if field != "readiness" and probe.success_threshold not in {None, 1}:
            yield Problem(
                "PRB002",
                (*where, "successThreshold"),
                f"Kubernetes takes only 1 for a {field} probe",
                "remove it",
            )
