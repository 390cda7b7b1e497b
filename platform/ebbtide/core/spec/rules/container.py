"""Rules for the container's environment variables, probes and security context."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Problem, offer_values, remove_field, set_value
from ebbtide.core.spec.rules.naming import LABEL_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.core.spec.inference import Inference

ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
#: Pod fields that a variable can refer to, in addition to a label or annotation by its key
#: (k8s.io/kubernetes pkg/apis/core/validation/validation.go, validEnvDownwardAPIFieldPathExpressions).
POD_FIELDS: Final = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
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
            number = f"several sources: {', '.join(sources)}" if sources else "no source"
            fix = "set exactly one of value, secret, configMap and podFieldRef"
            yield Problem("ENV001", where, f"{variable.name} has {number}", fix)
        elif variable.user_credential is not None:
            message = f"{variable.name} refers to a credential of a Run:ai user, which is available only in Run:ai's control plane"
            fix = "store the value in a Secret of the project and use secret: {name, key}"
            yield Problem("ENV003", (*where, "userCredential"), message, fix)
        elif variable.pod_field_ref is not None and not _is_pod_field(variable.pod_field_ref.path):
            message = f"invalid pod field {variable.pod_field_ref.path!r}: an environment variable cannot refer to it"
            fix = f"use one of {', '.join(POD_FIELDS)}, metadata.labels['key'] or metadata.annotations['key']"
            yield Problem("ENV007", (*where, "podFieldRef", "path"), message, fix, fixes=offer_values(POD_FIELDS))
        if ENV_NAME.fullmatch(variable.name) is None:
            message = f"invalid environment variable name {variable.name!r}"
            yield Problem("ENV005", (*where, "name"), message, "use letters, digits and _, starting with a letter or _")
        elif variable.name in index_by_name:
            first = f"environmentVariables[{index_by_name[variable.name]}]"
            message = f"duplicate environment variable {variable.name} (also in {first})"
            yield Problem("ENV004", (*where, "name"), message, "keep one of the entries")
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
            message = f"capability {capability} is not allowed by the restricted Pod Security Standard"
            fix = "remove it; only NET_BIND_SERVICE may be added"
            yield Problem("SEC001", (*where, "capabilities", index), message, fix, fixes=remove_field())
    if rules.seccomp_profile_type in {"Unconfined", "Localhost"}:
        reason = (
            "not allowed by the restricted Pod Security Standard"
            if rules.seccomp_profile_type == "Unconfined"
            else "not supported: Run:ai's spec has no field for the profile file"
        )
        message, fixes = f"seccomp profile type {rules.seccomp_profile_type} is {reason}", set_value("RuntimeDefault")
        yield Problem("SEC002", (*where, "seccompProfileType"), message, "use RuntimeDefault", fixes=fixes)
    if rules.uid_gid_source == "fromIdpToken":
        message = "uidGidSource fromIdpToken is not supported: no identity provider is available"
        fix = "use fromTheImage, or custom with runAsUid and runAsGid"
        yield Problem("SEC004", (*where, "uidGidSource"), message, fix)
    if rules.uid_gid_source == "custom" and rules.run_as_uid is None:
        yield Problem("SEC004", (*where, "uidGidSource"), "uidGidSource custom requires runAsUid", "set runAsUid")
    if rules.uid_gid_source == "fromTheImage":
        for field, value in (
            ("runAsUid", rules.run_as_uid),
            ("runAsGid", rules.run_as_gid),
            ("supplementalGroups", rules.supplemental_groups),
        ):
            if value is not None:
                message = f"{field} contradicts uidGidSource: fromTheImage"
                fix, fixes = f"set uidGidSource: custom, or remove {field}", set_value("custom", "uidGidSource")
                yield Problem("SEC004", (*where, field), message, fix, fixes=fixes + remove_field())
    groups = (rules.supplemental_groups or "").replace(";", ",")
    if any(text.strip() and int(text) > LARGEST_ID for text in groups.split(",")):
        fix = f"use IDs of at most {LARGEST_ID}"
        yield Problem("SEC004", (*where, "supplementalGroups"), "a group ID is out of range", fix)
    if rules.run_as_non_root and rules.run_as_uid == 0:
        message, fix = "runAsNonRoot does not allow user 0 (root)", "set another runAsUid, or set runAsNonRoot: false"
        yield Problem("SEC005", (*where, "runAsUid"), message, fix, fixes=set_value(False, "runAsNonRoot"))


def check_probes(inference: Inference) -> Iterator[Problem]:
    """Check that each probe has exactly one handler, and the values that Kubernetes accepts for its type."""
    all_probes = inference.spec.probes
    has_unknown_port = inference.spec.serving_port.container is None and inference.spec.model is not None
    for field, probe in (
        ("readiness", all_probes.readiness),
        ("liveness", all_probes.liveness),
        ("startup", all_probes.startup),
    ):
        if probe is None:
            continue
        handler = probe.handler
        where = ("spec", "probes", field)
        if has_unknown_port and handler.grpc is not None and handler.grpc.port is None:
            message = f"the gRPC {field} probe has no port, and the gRPC port of the model's runtime is unknown"
            yield Problem("PRB003", (*where, "handler", "grpc"), message, "set handler.grpc.port")
        checks = [check for check in (handler.http_get, handler.tcp_socket, handler.grpc) if check is not None]
        if len(checks) != 1:
            message = f"the {field} probe has {len(checks) or 'no'} handlers"
            yield Problem("PRB001", (*where, "handler"), message, "set exactly one of httpGet, tcpSocket and grpc")
        if field != "readiness" and probe.success_threshold not in {None, 1}:
            message = f"successThreshold of a {field} probe must be 1"
            yield Problem(
                "PRB002", (*where, "successThreshold"), message, "remove successThreshold", fixes=remove_field()
            )
