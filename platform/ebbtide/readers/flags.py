"""Reader of the flags of ``runai inference submit NAME …``, with their table; ``command_lines`` selects the reader of a line.

Upstream: run-ai/docs, runai_inference_submit.md (2.20), and NVIDIA's page of ``runai inference standard submit`` (2.24);
the flags of both are supported. Parsing follows spf13/pflag, which Run:ai uses: ``--flag value``, ``--flag=value``,
``-g 1``, ``-g1``, and boolean flags that take a value only after ``=``. argparse would stop at the first error; this
parser reports all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.base.problems import make_warning, shorten_text
from ebbtide.readers.reading import make_document
from ebbtide.readers.table import (
    DISTRIBUTED,
    NAMELESS,
    NO_GENERATED_NAMES,
    Draft,
    FieldRow,
    RefusedValueError,
    Subfield,
    apply_row,
    leave_to_rule,
    make_exposed_url,
    make_extended_resource,
    make_name_value,
    make_new_claim,
    make_variable,
    set_at,
    source_paths,
    split_path,
    true_or_none,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile

WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER: Final = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})")
#: Flags of ``runai inference distributed submit`` only.
DISTRIBUTED_FLAGS: Final = ("--workers", "--leader-", "--worker-", "--no-leader")
#: Values of boolean flags, as strconv.ParseBool accepts them.
TRUTHS: Final = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
#: Flags of older versions or of other commands, with the corresponding supported flag.
HABITS: Final = {
    "--min-scale": "--min-replicas",
    "--max-scale": "--max-replicas",
    "--target": "--metric-threshold",
    "--gpu": "--gpu-devices-request",
    "--cpu": "--cpu-core-request",
    "--memory": "--cpu-memory-request",
    "--env": "--environment-variable",
    "--namespace": "--project",
    "--pvc": "--existing-pvc",
    "--volume": "--existing-pvc",
    "--shm": "--large-shm",
    "--priority-class": "--priority",
}


#: The native fields whose flags no server has.
OURS: Final = (
    "spec.autoscaling.",
    "spec.compute.",
    "spec.nodePools",
    "spec.project",
    "spec.priorityClass",
    "spec.servingPort",
    "spec.servingConfiguration.",
    "spec.storage.",
)


# Formats of text.


def _parse_whole(text: str) -> int | None:
    return int(text) if WHOLE.fullmatch(text) else None


def _parse_decimal(text: str) -> float | None:
    return _parse_whole(text) if WHOLE.fullmatch(text) else float(text) if NUMBER.fullmatch(text) else None


def _parse_list(text: str) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] or None


def _parse_pair(text: str) -> tuple[str, str] | None:
    key, equals, value = text.partition("=")
    return (key, value) if equals and key else None


class FlagFormat(NamedTuple):
    """One format of a flag's text: placeholder for the usage, conversion (None if invalid), and the expected format."""

    placeholder: str
    read: Callable[[str], Any]
    expected: str = ""


#: The formats of a flag's text.
FORMS: Final = {
    "text": FlagFormat("TEXT", str),
    "whole": FlagFormat("N", _parse_whole, "a whole number"),
    "number": FlagFormat("NUMBER", _parse_decimal, "a number"),
    "list": FlagFormat("A,B", _parse_list, "a comma-separated list with at least one value"),
    "pair": FlagFormat("KEY=VALUE", _parse_pair, "KEY=VALUE"),
    "fields": FlagFormat("KEY=VALUE,…", str),
    "switch": FlagFormat("", TRUTHS.get, "true or false"),
}
#: The formats of one key's text in ``claimname=data,path=/data``.
PART_FORMS: Final = {
    "text": FlagFormat("", str, "a non-empty string"),
    "whole": FlagFormat("", _parse_whole, "a whole number"),
    "list": FlagFormat("", lambda text: [name for name in text.split(":") if name] or None, "names separated by :"),
    "true": FlagFormat("", TRUTHS.get, "true or false, or have no value"),
    "false": FlagFormat(
        "", lambda text: None if text not in TRUTHS else not TRUTHS[text], "true or false, or have no value"
    ),
}


@dataclass(frozen=True, slots=True)
class Flag(FieldRow):
    """One flag, as used by the reader, the usage text, and shell completion."""

    kind: str = "text"
    help: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()


# Conversions of values.


def _secret_variable(pair: tuple[str, str]) -> dict[str, Any]:
    name, text = pair
    secret, _, rest = text.partition(",")
    key = rest.removeprefix("key=")
    if not secret or not key or key == rest:
        raise RefusedValueError(
            "SPEC002", f"{shorten_text(text)} must name a Secret and one of its keys", "write NAME=SECRET,key=KEY"
        )
    return {"name": name, "secret": {"name": secret, "key": key}}


def _pod_field_variable(pair: tuple[str, str]) -> dict[str, Any]:
    return {"name": pair[0], "podFieldRef": {"path": pair[1]}}


def _read_environment(text: str) -> dict[str, Any]:
    """Read ``NAME=VALUE`` as in 2.20; in later versions the flag names an asset of the control plane."""
    pair = _parse_pair(text)
    if pair is None:
        raise RefusedValueError(
            "RUN001", ASSET.format("an environment asset"), "set --image, --command and -e NAME=VALUE yourself"
        )
    return make_variable(pair)


def _check_request_type(text: str) -> str:
    """Return the type; Run:ai 2.20 has ``migProfile`` too, without a flag for the profile."""
    if text == "migProfile":
        message = "Run:ai's command line has no flag for a MIG profile"
        raise RefusedValueError("GPU001", message, "use --gpu-memory-request, or set compute.migProfile in a spec")
    return text


def _read_topology_key(text: str) -> str:
    """Return a node label's key; Run:ai 2.24 documents it as ``key=LABEL``."""
    return text.removeprefix("key=")


def _make_pull_secret(name: str) -> dict[str, str]:
    return {"name": name}


def _make_existing_claim(entry: dict[str, Any]) -> dict[str, Any]:
    return {"existingPvc": True, **entry}


# Handlers of flags that do not correspond to exactly one native field.


def parse_port(draft: Draft, flag: Flag, text: str, key: str) -> dict[str, Any]:
    """Return the entry of a serving port, ``8000`` or ``KEY=8000,…``; empty after reporting problems."""
    port = _parse_whole(text)
    if port is None and "=" not in text:
        draft.add_error(
            "SPEC002", (flag.name,), f"invalid port {shorten_text(repr(text))}", f"write 8000, or {key}=8000,…"
        )
        return {}
    return parse_entry(draft, flag, text) or {} if port is None else {key: port}


def _take_serving_port(draft: Draft, flag: Flag, text: str, where: Path) -> None:
    for name, item in parse_port(draft, flag, text, "container").items():
        draft.set_field((*flag.native, name), item, where)


def _take_topology_key(draft: Draft, flag: Flag, key: str, where: Path, *, kind: str) -> None:
    other = draft.spec.get("podAffinity")
    if other is not None and other["type"] != kind:
        message = "--required-pod-topology-key and --preferred-pod-topology-key are mutually exclusive"
        draft.add_error("FLAGS004", where, message, "keep one of them")
        return
    draft.set_field(flag.native, {"type": kind, "key": key}, where)


def _take_excluded_nodes(draft: Draft, flag: Flag, nodes: list[str], where: Path) -> None:
    """Exclude nodes by their host name label."""
    spec = draft.spec
    if "nodeAffinityRequired" not in spec:
        condition = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": []}
        draft.set_field(flag.native, {"nodeSelectorTerms": [{"matchExpressions": [condition]}]}, where)
    spec["nodeAffinityRequired"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"].extend(nodes)


SERVING_PORT: Final = {
    "container": Subfield("container", "whole", needed=True),
    "authorization-type": Subfield("authorizationType"),
    "authorized-users": Subfield("authorizedUsers", "list"),
    "authorized-groups": Subfield("authorizedGroups", "list"),
    "cluster-local-access-only": Subfield("clusterLocalAccessOnly", "true"),
    "protocol": Subfield("protocol"),
}
TOLERATION: Final = {
    "operator": Subfield("operator"),
    "key": Subfield("key"),
    "value": Subfield("value"),
    "effect": Subfield("effect"),
    "seconds": Subfield("seconds", "whole"),
}
EXISTING_PVC: Final = {
    "claimname": Subfield("claimName", needed=True),
    "path": Subfield("path", needed=True),
    "ro": Subfield("readOnly", "true"),
    "readonly": Subfield("readOnly", "true"),
}
NEW_PVC: Final = {
    "claimname": Subfield("claimName"),
    "storageclass": Subfield("claimInfo.storageClass"),
    "size": Subfield("claimInfo.size", needed=True),
    "path": Subfield("path", needed=True),
    "accessmode-rwo": Subfield("claimInfo.accessModes.readWriteOnce", "true"),
    "accessmode-rom": Subfield("claimInfo.accessModes.readOnlyMany", "true"),
    "accessmode-rwm": Subfield("claimInfo.accessModes.readWriteMany", "true"),
    "ro": Subfield("readOnly", "true"),
    "readonly": Subfield("readOnly", "true"),
    "ephemeral": Subfield("ephemeral", "true"),
}
NFS: Final = {
    "path": Subfield("path", needed=True),
    "server": Subfield("server", needed=True),
    "mountpath": Subfield("mountPath", needed=True),
    "readwrite": Subfield("readOnly", "false"),
}
HOST_PATH: Final = {
    "path": Subfield("path", needed=True),
    "mount": Subfield("mountPath", needed=True),
    "mount-propagation": Subfield("mountPropagation"),
    "readwrite": Subfield("readOnly", "false"),
}
SECRET_VOLUME: Final = {
    "path": Subfield("mountPath", needed=True),
    "name": Subfield("secret", needed=True),
    "default-mode": Subfield("defaultMode"),
}
CONFIG_MAP_VOLUME: Final = {
    "name": Subfield("configMap", needed=True),
    "path": Subfield("mountPath", needed=True),
    "subpath": Subfield("subPath"),
    "default-mode": Subfield("defaultMode"),
}
EMPTY_DIR_VOLUME: Final = {
    "name": Subfield("name"),
    "path": Subfield("path", needed=True),
    "medium": Subfield("medium"),
    "size-limit": Subfield("sizeLimit"),
}
GIT_SYNC: Final = {
    "name": Subfield("name"),
    "repository": Subfield("repository", needed=True),
    "path": Subfield("path"),
    "secret": Subfield("passwordSecret"),
    "rev": Subfield("revision"),
    "branch": Subfield("branch"),
}
PORT: Final = {
    "service-type": Subfield("serviceType"),
    "container": Subfield("container", "whole", needed=True),
    "external": Subfield("external", "whole"),
}
EXTERNAL_URL: Final = {
    "container": Subfield("container", "whole"),
    "url": Subfield("url", needed=True),
    "authusers": Subfield("authorizedUsers", "list"),
    "authgroups": Subfield("authorizedGroups", "list"),
}
LEVELS: Final = ("very-low", "low", "medium-low", "medium", "medium-high", "high", "very-high")
ASSET: Final = "{} is stored in Run:ai's control plane, which Ebbtide cannot read"


def _asset_flag(name: str, asset: str, fix: str, *, many: bool = False) -> Flag:
    """Return an unsupported flag that references an asset in Run:ai's control plane."""
    text = f"{asset[0].upper()}{asset[1:]} of Run:ai's control plane; not supported"
    return Flag.refused(name, "RUN001", ASSET.format(f"a {asset}"), fix, help=text, many=many)


def _client_flag(name: str, effect: str, kind: str, short: str = "") -> Flag:
    """Return a flag that affects only Run:ai's client."""
    message = f"{name} controls Run:ai's client and has no effect on the manifests"
    refusal = make_warning("FLAGS005", (), message, "remove it")
    return Flag(name, kind=kind, help=f"{effect}; no effect in Ebbtide", short=short, refusal=refusal)


FLAGS: Final[tuple[Flag, ...]] = (
    # Identity
    Flag("--project", "spec.project", help="Project; each project has a namespace", short="-p"),
    Flag.refused(
        "--name-prefix",
        "RUN002",
        NO_GENERATED_NAMES,
        "give the workload its own name",
        help="Prefix of a generated name; not supported",
    ),
    Flag("--label", "spec.labels", "pair", help="Label on the pods", many=True, read=make_name_value),
    Flag("--annotation", "spec.annotations", "pair", help="Annotation on the pods", many=True, read=make_name_value),
    # Container
    Flag("--image", "spec.image", help="Container image", short="-i"),
    Flag(
        "--image-pull-policy",
        "spec.imagePullPolicy",
        help="Image pull policy",
        choices=("Always", "IfNotPresent", "Never"),
    ),
    Flag(
        "--image-pull-secret",
        "spec.imagePullSecrets",
        help="Secret with registry credentials",
        many=True,
        read=_make_pull_secret,
    ),
    Flag(
        "--command",
        "spec.command",
        "switch",
        help="Use the arguments after -- as the container's command",
        take=leave_to_rule,
        short="-c",
    ),
    Flag(
        "--environment-variable",
        "spec.environmentVariables",
        "pair",
        help="Environment variable; NAME=SECRET:name,key reads it from a Secret",
        many=True,
        read=make_variable,
        short="-e",
    ),
    Flag(
        "--environment",
        "spec.environmentVariables",
        help="Environment variable, as in Run:ai 2.20; environment assets of later versions are not supported",
        many=True,
        read=_read_environment,
    ),
    Flag(
        "--env-secret",
        "spec.environmentVariables",
        "pair",
        help="Environment variable from a Secret: NAME=SECRET,key=KEY",
        many=True,
        read=_secret_variable,
    ),
    Flag(
        "--env-pod-field-ref",
        "spec.environmentVariables",
        "pair",
        help="Environment variable from a pod field: NAME=metadata.name",
        many=True,
        read=_pod_field_variable,
    ),
    Flag("--working-dir", "spec.workingDir", help="Working directory of the container"),
    Flag("--create-home-dir", "spec.createHomeDir", "switch", help="Create a home directory; not supported"),
    Flag("--large-shm", "spec.compute.largeShmRequest", "switch", help="Provide a larger /dev/shm"),
    # Compute
    Flag("--cpu-core-request", "spec.compute.cpuCoreRequest", "number", help="CPU request in cores"),
    Flag("--cpu-core-limit", "spec.compute.cpuCoreLimit", "number", help="CPU limit in cores"),
    Flag("--cpu-memory-request", "spec.compute.cpuMemoryRequest", help="Memory request, as in 16Gi"),
    Flag("--cpu-memory-limit", "spec.compute.cpuMemoryLimit", help="Memory limit, as in 16Gi"),
    Flag("--gpu-devices-request", "spec.compute.gpuDevicesRequest", "whole", help="Number of GPU devices", short="-g"),
    Flag(
        "--gpu-request-type",
        "spec.compute.gpuRequestType",
        help="Type of the GPU request",
        read=_check_request_type,
        choices=("portion", "memory"),
    ),
    Flag(
        "--gpu-portion-request",
        "spec.compute.gpuPortionRequest",
        "number",
        help="GPU fraction of each device, as in 0.5",
    ),
    Flag("--gpu-portion-limit", "spec.compute.gpuPortionLimit", "number", help="GPU fraction limit of each device"),
    Flag("--gpu-memory-request", "spec.compute.gpuMemoryRequest", help="GPU memory request per device, as in 20G"),
    Flag("--gpu-memory-limit", "spec.compute.gpuMemoryLimit", help="GPU memory limit per device"),
    Flag(
        "--extended-resource",
        "spec.compute.extendedResources",
        "pair",
        help="Extended resource, as in rdma/hca=1",
        many=True,
        read=make_extended_resource,
    ),
    # Autoscaling
    Flag(
        "--min-replicas",
        "spec.autoscaling.minReplicas",
        "whole",
        help="Minimum number of replicas; 0 enables scale to zero",
    ),
    Flag("--max-replicas", "spec.autoscaling.maxReplicas", "whole", help="Maximum number of replicas"),
    Flag(
        "--initial-replicas",
        "spec.autoscaling.initialReplicas",
        "whole",
        help="Initial number of replicas of a new revision",
    ),
    Flag(
        "--activation-replicas",
        "spec.autoscaling.activationReplicas",
        "whole",
        help="Number of replicas when scaling from zero",
    ),
    Flag(
        "--metric",
        "spec.autoscaling.metric",
        help="Scaling metric: concurrency, throughput, latency, gpu-utilization, or a custom metric",
    ),
    Flag("--metric-threshold", "spec.autoscaling.metricThreshold", "number", help="Scaling threshold per replica"),
    Flag(
        "--metric-threshold-percentage",
        "spec.autoscaling.metricThresholdPercentage",
        "number",
        help="Target utilization of the threshold in percent, 1 to 100",
    ),
    Flag(
        "--concurrency-hard-limit",
        "spec.autoscaling.concurrencyHardLimit",
        "whole",
        help="Maximum concurrent requests per replica; 0 for no limit",
    ),
    Flag(
        "--scale-down-delay-seconds",
        "spec.autoscaling.scaleDownDelaySeconds",
        "whole",
        help="Scale-down delay: seconds that the load must stay lower before replicas are removed",
    ),
    Flag(
        "--scale-to-zero-retention-seconds",
        "spec.autoscaling.scaleToZeroRetentionSeconds",
        "whole",
        help="Seconds to keep the last replica before scaling to zero",
    ),
    Flag(
        "--initialization-timeout-seconds",
        "spec.servingConfiguration.initializationTimeoutSeconds",
        "whole",
        help="Seconds until a revision must be ready",
    ),
    Flag(
        "--request-timeout-seconds",
        "spec.servingConfiguration.requestTimeoutSeconds",
        "whole",
        help="Request timeout in seconds",
    ),
    # Network
    Flag(
        "--serving-port",
        "spec.servingPort",
        "fields",
        help="Serving port: 8000, or container=8000,protocol=grpc,…; separate list items with :",
        take=_take_serving_port,
        parts=SERVING_PORT,
    ),
    Flag(
        "--port",
        "spec.ports",
        "fields",
        help="Additional port; not supported, only the serving port is",
        many=True,
        parts=PORT,
    ),
    Flag(
        "--external-url",
        "spec.exposedUrls",
        "fields",
        help="Custom host name",
        many=True,
        read=make_exposed_url,
        parts=EXTERNAL_URL,
    ),
    # Scheduling
    Flag("--node-pools", "spec.nodePools", "list", help="Node pools, in order of preference", many=True),
    Flag("--node-type", "spec.nodeType", help="Node type"),
    Flag(
        "--exclude-node",
        "spec.nodeAffinityRequired",
        "list",
        help="Nodes to avoid",
        many=True,
        take=_take_excluded_nodes,
    ),
    Flag("--toleration", "spec.tolerations", "fields", help="Toleration for a node taint", many=True, parts=TOLERATION),
    Flag(
        "--required-pod-topology-key",
        "spec.podAffinity",
        help="Node label whose value must be the same for all replicas (pod affinity)",
        read=_read_topology_key,
        take=partial(_take_topology_key, kind="Required"),
    ),
    Flag(
        "--preferred-pod-topology-key",
        "spec.podAffinity",
        help="Node label whose value should be the same for all replicas (pod affinity)",
        read=_read_topology_key,
        take=partial(_take_topology_key, kind="Preferred"),
    ),
    Flag("--priority", "spec.priorityClass", help="Priority of the workload", choices=LEVELS),
    Flag(
        "--preemptibility",
        "spec.preemptibility",
        help="Preemptibility of the workload",
        choices=("preemptible", "non-preemptible"),
    ),
    # Storage
    Flag(
        "--existing-pvc",
        "spec.storage.pvc",
        "fields",
        help="Mount an existing PersistentVolumeClaim",
        many=True,
        read=_make_existing_claim,
        parts=EXISTING_PVC,
    ),
    Flag(
        "--new-pvc",
        "spec.storage.pvc",
        "fields",
        help="Create and mount a PersistentVolumeClaim",
        many=True,
        read=make_new_claim,
        parts=NEW_PVC,
    ),
    Flag("--nfs", "spec.storage.nfs", "fields", help="NFS share; not supported", many=True, parts=NFS),
    Flag(
        "--host-path",
        "spec.storage.hostPath",
        "fields",
        help="Directory on the node; not supported",
        many=True,
        parts=HOST_PATH,
    ),
    Flag(
        "--secret-volume",
        "spec.storage.secretVolume",
        "fields",
        help="Mount files from a Secret",
        many=True,
        parts=SECRET_VOLUME,
    ),
    Flag(
        "--configmap-map-volume",
        "spec.storage.configMapVolume",
        "fields",
        help="Mount files from a ConfigMap",
        many=True,
        parts=CONFIG_MAP_VOLUME,
    ),
    Flag(
        "--empty-dir-volume",
        "spec.storage.emptyDirVolume",
        "fields",
        help="Mount an empty scratch directory",
        many=True,
        parts=EMPTY_DIR_VOLUME,
    ),
    Flag("--git-sync", "spec.storage.git", "fields", help="Git repository; not supported", many=True, parts=GIT_SYNC),
    Flag.refused(
        "--datavolume",
        "STO004",
        "--datavolume references a data volume of Run:ai's control plane, which Ebbtide cannot read",
        "use the PersistentVolumeClaim behind it: --existing-pvc claimname=…,path=…",
        help="Run:ai data volume; not supported",
        many=True,
    ),
    # Security
    Flag("--run-as-uid", "spec.security.runAsUid", "whole", help="User ID of the container"),
    Flag("--run-as-gid", "spec.security.runAsGid", "whole", help="Group ID of the container"),
    Flag("--run-as-non-root", "spec.security.runAsNonRoot", "switch", help="Forbid running as root"),
    Flag.refused(
        "--run-as-user",
        "SEC004",
        "--run-as-user means the submitting user, whose ID Ebbtide cannot look up",
        "set --run-as-uid and --run-as-gid",
        help="Run as the submitting user; not supported",
        kind="switch",
        read=true_or_none,
    ),
    Flag(
        "--supplemental-groups",
        "spec.security.supplementalGroups",
        "list",
        help="Additional group IDs",
        many=True,
        take=leave_to_rule,
    ),
    Flag(
        "--user-group-source",
        "spec.security.uidGidSource",
        help="Source of user and group IDs",
        choices=("fromTheImage", "fromIdpToken"),
    ),
    Flag(
        "--seccomp-profile",
        "spec.security.seccompProfileType",
        help="Seccomp profile",
        choices=("RuntimeDefault", "Unconfined", "Localhost"),
    ),
    Flag("--capability", "spec.security.capabilities", help="Linux capability to add", many=True),
    Flag.refused(
        "--host-ipc",
        "SEC006",
        "sharing the node's IPC namespace breaks the pod's isolation",
        "use --large-shm",
        help="Use the node's IPC namespace; not supported",
        kind="switch",
        read=true_or_none,
    ),
    Flag.refused(
        "--host-network",
        "SEC006",
        "sharing the node's network breaks the pod's isolation",
        "remove it",
        help="Use the node's network; not supported",
        kind="switch",
        read=true_or_none,
    ),
    Flag.refused(
        "--privileged",
        "SEC006",
        "a privileged container has root access to the node",
        "remove it",
        help="Run a privileged container; not supported",
        kind="switch",
        read=true_or_none,
    ),
    # Assets of Run:ai's control plane
    _asset_flag("--template", "template", "set the template's flags yourself"),
    _asset_flag(
        "--compute",
        "compute asset",
        "set --gpu-devices-request, --cpu-core-request and the other compute flags yourself",
    ),
    _asset_flag(
        "--datasource", "data source asset", "use --existing-pvc, --secret-volume or --configmap-map-volume", many=True
    ),
    Flag.refused(
        "--env-my-credentials",
        "ENV003",
        "Run:ai user credentials are stored in Run:ai's control plane, which Ebbtide cannot read",
        "store the credential in a Secret of the project and use --env-secret NAME=SECRET,key=KEY",
        help="Environment variable from a user's credential; not supported",
        many=True,
    ),
    Flag.refused(
        "--image-pull-my-credentials",
        "ENV003",
        "Run:ai user credentials are stored in Run:ai's control plane, which Ebbtide cannot read",
        "create a Secret of type kubernetes.io/dockerconfigjson and use --image-pull-secret",
        help="Registry credential of a user; not supported",
        many=True,
    ),
    Flag.refused(
        "--attach",
        "CRD002",
        "an inference server has no terminal to attach to",
        "remove it",
        help="Attach a terminal to the container; not supported",
        kind="switch",
        read=true_or_none,
    ),
    # Run:ai's client
    _client_flag("--pod-running-timeout", "Time to wait for the pod", "text"),
    _client_flag("--wait-for-submit", "Time to wait for the workload", "text"),
    _client_flag("--config-file", "Configuration file of the client", "text"),
    _client_flag("--config-path", "Configuration directory of the client", "text"),
    _client_flag("--debug", "Debug output", "switch", "-d"),
    _client_flag("--quiet", "Less output", "switch", "-q"),
    _client_flag("--verbose", "More output", "switch"),
    Flag("--help", "", "switch", help="Show this help message and exit", take=leave_to_rule, short="-h"),
)
BY_NAME: Final = {flag.name: flag for flag in FLAGS} | {flag.short: flag for flag in FLAGS if flag.short}
ORIGINS: Final[dict[Path, Path]] = {("metadata", "name"): ("NAME",), **source_paths(FLAGS)}


# Parsing of arguments.


class GivenFlag(NamedTuple):
    """One flag of a command line, with its text, or None for a boolean flag without a value."""

    flag: Flag
    text: str | None


def read_flags(argv: Sequence[str], profile: Profile) -> Draft:
    """Return a command line in native form, with all its problems. ``argv`` are the arguments after the command."""
    draft = Draft(make_document(NAMELESS, {}), dict(ORIGINS), cluster=profile.spec)
    words, rest = split_at_dashes(list(argv))
    flags = take_arguments(draft, words, BY_NAME)
    _set_supplemental_groups(draft, flags)
    _set_command(draft, rest)
    return draft


def take_arguments(draft: Draft, words: list[str], table: Mapping[str, Flag]) -> list[GivenFlag]:
    """Set the name and the fields of a table's flags in a draft, and return the flags."""
    names, flags = _parse_arguments(draft, words, table)
    for given_flag in flags:
        _take_flag(draft, given_flag)
    _set_name(draft, names)
    return flags


def split_at_dashes(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """Return the arguments before ``--``, and those after it, or None without ``--``."""
    if "--" not in argv:
        return argv, None
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def _parse_arguments(draft: Draft, words: list[str], table: Mapping[str, Flag]) -> tuple[list[str], list[GivenFlag]]:
    """Return the names and the flags among the arguments."""
    names: list[str] = []
    flags: list[GivenFlag] = []
    place = 0
    while place < len(words):
        word = words[place]
        following = words[place + 1] if place + 1 < len(words) else None
        place += 1
        if not word.startswith("-") or word == "-":
            names.append(word)
        elif word.startswith("--"):
            place += _parse_long_flag(draft, word, following, flags, table)
        else:
            place += _parse_short_flags(draft, word, following, flags, table)
    return names, flags


def _parse_long_flag(
    draft: Draft, word: str, following: str | None, flags: list[GivenFlag], table: Mapping[str, Flag]
) -> int:
    """Parse ``--flag``, ``--flag value`` or ``--flag=value``; return the number of further arguments that it used."""
    name, equals, text = word.partition("=")
    flag = table.get(name)
    if flag is None:
        _refuse_unknown_flag(draft, name, table)
        # Skip the value of an unknown flag, which would otherwise be read as a second name.
        return int(not equals and following is not None and not following.startswith("-"))
    if equals:
        flags.append(GivenFlag(flag, text))
        return 0
    return _add_flag_with_value(draft, flag, following, flags, table)


def _parse_short_flags(
    draft: Draft, word: str, following: str | None, flags: list[GivenFlag], table: Mapping[str, Flag]
) -> int:
    """Parse ``-g 1``, ``-g1``, ``-g=1``, or combined boolean flags like ``-qd``; return as ``_parse_long_flag`` does."""
    if f"-{word.partition('=')[0]}" in table:
        # A long flag with one dash, as in Run:ai's quickstart of 2.25: pflag would read its first letter as a flag.
        return _parse_long_flag(draft, word, following, flags, table)
    for place in range(1, len(word)):
        flag = table.get("-" + word[place])
        if flag is None:
            _refuse_unknown_flag(draft, "-" + word[place], table)
            return 0
        rest = word[place + 1 :]
        if rest.startswith("=") or (rest and flag.kind != "switch"):
            flags.append(GivenFlag(flag, rest.removeprefix("=")))
            return 0
        if flag.kind != "switch":
            return _add_flag_with_value(draft, flag, following, flags, table)
        flags.append(GivenFlag(flag, None))
    return 0


def _add_flag_with_value(
    draft: Draft, flag: Flag, following: str | None, flags: list[GivenFlag], table: Mapping[str, Flag]
) -> int:
    """Add a flag with the following argument as its value; return the number of further arguments that it used."""
    if flag.kind == "switch":
        flags.append(GivenFlag(flag, None))
        return 0
    if following is None or _is_flag(following, table):
        draft.add_error("FLAGS002", (flag.name,), f"{flag.name} has no value", f"write {_flag_syntax(flag)}")
        draft.unread.update(flag.fields)
        return 0
    flags.append(GivenFlag(flag, following))
    return 1


def _is_flag(word: str, table: Mapping[str, Flag]) -> bool:
    return word.partition("=")[0] in table or (word.startswith("--") and len(word) > len("--"))


def _refuse_unknown_flag(draft: Draft, name: str, table: Mapping[str, Flag]) -> None:
    from difflib import get_close_matches  # noqa: PLC0415 - only needed for a misspelled name

    if name.startswith(DISTRIBUTED_FLAGS):
        draft.add_error(DISTRIBUTED[0], (name,), *DISTRIBUTED[1:])
        return
    suggestion = HABITS.get(name, "-" + name)
    if suggestion not in table:
        suggestion = next(iter(get_close_matches(name, table, 1, 0.7)), "") if name.startswith("--") else ""
    hint = f"did you mean {suggestion}?" if suggestion else "see the list of flags with --help"
    draft.add_error("FLAGS001", (name,), f"unknown flag {shorten_text(name)}", hint)
    draft.unread.update(table[suggestion].fields if suggestion else ())


# Conversion of flags to the native document.


def _take_flag(draft: Draft, given_flag: GivenFlag) -> None:
    flag, where = given_flag.flag, (given_flag.flag.name,)
    if not flag.many and flag.name in draft.values_by_name:
        message = f"{flag.name} is set more than once; as in Run:ai, the last value is used"
        draft.add_warning("FLAGS004", where, message, "keep one of them")
    draft.values_by_name[flag.name] = given_flag.text or ""
    with draft.reading_field(flag):
        value = _convert_value(draft, flag, given_flag.text)
        if value is not None and flag.parts and flag.take is None:
            value = parse_entry(draft, flag, value)
    if value is not None:
        apply_row(draft, flag, value, where)


def _convert_value(draft: Draft, flag: Flag, text: str | None) -> Any:
    """Return the converted value of a flag, or None after reporting a problem."""
    form = FORMS[flag.kind]
    if flag.kind == "switch" and text is None:
        return True
    if not text and flag.kind != "switch":
        draft.add_error("FLAGS002", (flag.name,), f"{flag.name} has no value", f"write {_flag_syntax(flag)}")
        return None
    value = form.read(text or "")
    if value is None:
        # The older client of Run:ai has one flag for devices and for a fraction of one.
        is_fraction = flag.name == "--gpu-devices-request" and 0 < (_parse_decimal(text or "") or 0) < 1
        draft.add_error(
            "SPEC002",
            (flag.name,),
            f"invalid value {shorten_text(repr(text))} of {flag.name}: must be {form.expected}",
            f"use --gpu-portion-request {text}" if is_fraction else f"write {_flag_syntax(flag)}",
        )
    return value


def parse_entry(draft: Draft, flag: Flag, text: str) -> dict[str, Any] | None:
    """Return the native entry of ``claimname=data,path=/data,readonly``, or None after reporting problems."""
    entry: dict[str, Any] = {}
    keys: set[str] = set()
    problems_before = len(draft.problems)
    where = (flag.name,)
    for piece in text.split(","):
        key, equals, written = piece.partition("=")
        key = key.strip()
        part = flag.parts.get(key)
        if part is None:
            draft.add_error(
                "SPEC001",
                where,
                f"unknown key {shorten_text(key)} of {flag.name}",
                f"use one of {', '.join(flag.parts)}",
            )
            continue
        keys.add(key)
        form = PART_FORMS[part.kind]
        if not equals and part.kind in {"true", "false"}:
            written = "true"
        value = form.read(written) if written else None
        if value is None:
            wrong = f" {shorten_text(repr(written))}" if equals else ""
            draft.add_error(
                "SPEC002", where, f"invalid {key}{wrong}: must be {form.expected}", f"write {_flag_syntax(flag)}"
            )
            continue
        set_at(entry, split_path(part.to), value)
    for key, part in flag.parts.items():
        if part.needed and key not in keys:
            draft.add_error("SPEC003", where, f"{key} of {flag.name} is missing", f"add {key}=…: {_flag_syntax(flag)}")
    return entry if len(draft.problems) == problems_before else None


def _set_name(draft: Draft, names: list[str]) -> None:
    where = ("NAME",)
    if not names and "--name-prefix" not in draft.values_by_name:
        draft.add_error("SPEC003", where, "the workload has no name", "put the name first: chat --image …")
    for extra in names[1:]:
        hint = "put the container's command after --"
        if extra in TRUTHS:
            hint = f"set the value of a boolean flag with an equals sign: --large-shm={extra}"
        draft.add_error("FLAGS003", where, f"unexpected argument {shorten_text(repr(extra))}", hint)
    if names:
        draft.set_field(("metadata", "name"), names[0], where)


def _set_supplemental_groups(draft: Draft, flags: list[GivenFlag]) -> None:
    """Join the group IDs of every ``--supplemental-groups`` into the spec's string."""
    flag = BY_NAME["--supplemental-groups"]
    ids = [
        group for given_flag in flags if given_flag.flag is flag for group in _parse_list(given_flag.text or "") or ()
    ]
    if ids:
        draft.set_field(flag.native, ",".join(ids), (flag.name,))


def _set_command(draft: Draft, rest: list[str] | None) -> None:
    """Set the arguments after ``--`` as the container's arguments, or with ``--command`` as its command."""
    is_command = "--command" in draft.values_by_name and TRUTHS.get(draft.values_by_name["--command"] or "true", False)
    if is_command and not rest:
        message = "--command needs the command after --"
        draft.add_error("FLAGS002", ("--command",), message, "write --command -- python server.py")
    elif rest:
        _warn_of_late_flags(draft, rest)
        draft.set_field(("spec", "command" if is_command else "args"), rest, ("--command" if is_command else "--",))


def _warn_of_late_flags(draft: Draft, rest: list[str]) -> None:
    """Warn of flags after ``--`` that Run:ai, not a server, would understand."""
    names = [word.partition("=")[0] for word in rest]
    # Run:ai's quickstart of 2.25 writes one of them with one dash.
    late = [
        name
        for name in names
        for known in (name, "-" + name)
        if known in BY_NAME and BY_NAME[known].to.startswith(OURS)
    ]
    if late:
        draft.add_warning(
            "FLAGS046",
            ("--",),
            f"{', '.join(dict.fromkeys(late))} after -- are arguments of the container, and have no effect on the workload",
            "put them before --, or ignore this if the server has arguments of these names",
        )


# Usage text.


def _flag_syntax(flag: Flag) -> str:
    """Return the syntax of a flag, such as ``--gpu-devices-request N``."""
    form = f"{{{'|'.join(flag.choices)}}}" if flag.choices else FORMS[flag.kind].placeholder
    if flag.parts:
        form = ",".join(f"{key}=…" for key in flag.parts)
    return f"{flag.name} {form}".strip()


#: Groups of the help: the title, and the first flag of the group in the table.
GROUPS: Final = (
    ("Workload", "--project"),
    ("Compute", "--large-shm"),
    ("Autoscaling", "--min-replicas"),
    ("Timeouts", "--initialization-timeout-seconds"),
    ("Network", "--serving-port"),
    ("Placement and priority", "--node-pools"),
    ("Storage", "--existing-pvc"),
    ("Security", "--run-as-uid"),
    ("NIM services, with `runai inference nim submit` before the name", "--category"),
)
#: Flags that the help only names: the title, and the text in the flag's help that selects them.
FOLDED: Final = (
    ("Rejected, each with the reason", "; not supported"),
    ("Accepted without effect", "; no effect in Ebbtide"),
)


def format_flags(rows: Sequence[Flag] = FLAGS) -> str:
    """Return the help text of flags: a line for each, in groups, and only the names of those without effect."""
    forms = {
        flag.name: f"{flag.short + ', ' if flag.short else '    '}{flag.name} {FORMS[flag.kind].placeholder}".rstrip()
        for flag in rows
    }
    folded: dict[str, list[str]] = {title: [] for title, _ in FOLDED}
    shown: list[Flag] = []
    for flag in rows:
        title = next((title for title, text in FOLDED if text in flag.help), "")
        if title:
            folded[title].append(flag.name)
        elif flag.name != "--help":
            shown.append(flag)
    width = max(len(forms[flag.name]) for flag in shown)
    titles = {name: title for title, name in GROUPS}
    lines = []
    for flag in shown:
        # A name that two tables share starts a group once.
        if title := titles.pop(flag.name, ""):
            lines += ["", f"{title}:"]
        more = f" ({', '.join(flag.choices)})" if flag.choices else ""
        more += "; repeatable" if flag.many else ""
        lines.append(f"  {forms[flag.name]:<{width}}  {flag.help}{more}")
    for title, names in folded.items():
        lines += [
            "",
            f"{title}:",
            *wrap(", ".join(names), 78, break_on_hyphens=False, initial_indent="  ", subsequent_indent="  "),
        ]
    return "\n".join(lines) + "\n"
