"""Run:ai's command line, ``runai inference submit NAME …``, as a table and a reader.

Upstream: run-ai/docs, runai_inference_submit.md (2.20), and NVIDIA's page of ``runai inference standard
submit`` (2.24); flags of either are read. Parsing follows spf13/pflag, which Run:ai uses: ``--flag value``,
``--flag=value``, ``-g 1``, ``-g1``, switches that take a value only behind ``=``. argparse would stop at the
first mistake; this collects all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ebbtide.base.problems import Problem, warning
from ebbtide.readers.reading import Reading, document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile

    Take = Callable[["Draft", "Flag", Any], None]

Kind = Literal["text", "whole", "number", "list", "pair", "fields", "switch"]

#: How usage names a value of each kind.
PLACEHOLDERS: Final[dict[Kind, str]] = {
    "text": "TEXT",
    "whole": "N",
    "number": "NUMBER",
    "list": "A,B",
    "pair": "KEY=VALUE",
    "fields": "KEY=VALUE,…",
    "switch": "",
}
#: The words before the name in a copied command line.
COMMAND: Final = ("runai", "inference", "standard", "submit")
#: The name used only while there is an error anyway, so that one missing name is one problem.
NAMELESS: Final = "unnamed"
WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER: Final = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})")
SECRET: Final = re.compile(r"SECRET:\s*([^,\s]+)\s*,\s*(\S+)")
#: As Go's strconv.ParseBool reads them.
TRUTHS: Final = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
#: Flags that people write from older pages, other commands or habit, and the right one.
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


@dataclass(slots=True)
class Draft:
    """The native document as it grows, with the flags its parts come from and what is wrong so far."""

    native: dict[str, Any]
    origins: dict[Path, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    #: The flags that were given, each with its last value as it was written.
    given: dict[str, str] = field(default_factory=dict)

    def put(self, path: tuple[str, ...], value: Any, flag: str) -> None:
        """Set a native field and remember the flag."""
        self._place(path)[path[-1]] = value
        self.origins[path] = (flag,)

    def add(self, path: tuple[str, ...], value: Any, flag: str) -> None:
        """Append to a native list and remember the flag."""
        items = self._place(path).setdefault(path[-1], [])
        self.origins[*path, len(items)] = (flag,)
        items.append(value)

    def _place(self, path: tuple[str, ...]) -> dict[str, Any]:
        place = self.native
        for part in path[:-1]:
            place = place.setdefault(part, {})
        return place

    def refuse(self, code: str, flag: str, message: str, fix: str) -> None:
        """Note an error."""
        self.problems.append(Problem(code, (flag,), message, fix))

    def warn(self, code: str, flag: str, message: str, fix: str) -> None:
        """Note something that changes nothing."""
        self.problems.append(warning(code, (flag,), message, fix))


@dataclass(frozen=True, slots=True)
class Part:
    """One key of a value like ``claimname=data,path=/data``: where it lands, and how its text is read."""

    path: tuple[str, ...]
    kind: Literal["text", "whole", "list", "true", "false"] = "text"
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: for the reader, for usage, and for completion."""

    name: str
    help: str
    kind: Kind
    native: tuple[str, ...]
    take: Take
    short: str = ""
    repeat: bool = False
    choices: tuple[str, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)
    #: Code, message and fix of a flag that cannot be honoured.
    refusal: tuple[str, str, str] = ("", "", "")


# How a flag's value is taken.


def _put(draft: Draft, flag: Flag, value: Any) -> None:
    """Keep the value; the models say if it is out of bounds."""
    draft.put(flag.native, value, flag.name)


def _add(draft: Draft, flag: Flag, value: Any) -> None:
    draft.add(flag.native, value, flag.name)


def _extend(draft: Draft, flag: Flag, value: list[str]) -> None:
    for text in value:
        draft.add(flag.native, text, flag.name)


def _refuse(draft: Draft, flag: Flag, value: Any) -> None:
    """Refuse the flag; a switch that is off asks for nothing."""
    if value is not False:
        draft.refuse(flag.refusal[0], flag.name, flag.refusal[1], flag.refusal[2])


def _client(draft: Draft, flag: Flag, value: Any) -> None:  # noqa: ARG001 - whatever it is
    draft.warn(
        "FLAGS005",
        flag.name,
        f"{flag.name} steers Run:ai's own client and changes nothing in what is made",
        "remove it",
    )


def _apart(draft: Draft, flag: Flag, value: Any) -> None:
    """Leave the value to the reader, which looks at it together with others."""


def _named(draft: Draft, flag: Flag, value: tuple[str, str]) -> None:
    draft.add(flag.native, {"name": value[0], "value": value[1]}, flag.name)


def _variable(draft: Draft, flag: Flag, value: tuple[str, str]) -> None:
    name, text = value
    of_secret = SECRET.fullmatch(text)
    source: dict[str, Any] = {"value": text}
    if of_secret is not None:
        source = {"secret": {"name": of_secret[1], "key": of_secret[2]}}
    draft.add(flag.native, {"name": name, **source}, flag.name)


def _environment(draft: Draft, flag: Flag, value: str) -> None:
    """Read ``NAME=VALUE`` as 2.20 did; since then the flag names an asset of the control plane."""
    name, equals, text = value.partition("=")
    if equals and name:
        _variable(draft, flag, (name, text))
    else:
        _refuse(draft, flag, value)


def _of_secret(draft: Draft, flag: Flag, value: tuple[str, str]) -> None:
    name, text = value
    secret, _, rest = text.partition(",")
    key = rest.removeprefix("key=")
    if not secret or not key or key == rest:
        draft.refuse("SPEC002", flag.name, f"{_cut(text)} names no key of a Secret", "write NAME=SECRET,key=KEY")
    else:
        draft.add(flag.native, {"name": name, "secret": {"name": secret, "key": key}}, flag.name)


def _of_field(draft: Draft, flag: Flag, value: tuple[str, str]) -> None:
    draft.add(flag.native, {"name": value[0], "podFieldRef": {"path": value[1]}}, flag.name)


def _resource(draft: Draft, flag: Flag, value: tuple[str, str]) -> None:
    draft.add(flag.native, {"resource": value[0], "quantity": value[1]}, flag.name)


def _pull_secret(draft: Draft, flag: Flag, value: str) -> None:
    draft.add(flag.native, {"name": value}, flag.name)


def _row(draft: Draft, flag: Flag, value: str) -> None:
    """Make one native entry of a value like ``claimname=data,path=/data``."""
    row = _parts(draft, flag, value)
    if row is not None:
        draft.add(flag.native, row, flag.name)


def _existing(draft: Draft, flag: Flag, value: str) -> None:
    row = _parts(draft, flag, value)
    if row is not None:
        draft.add(flag.native, {"existingPvc": True, **row}, flag.name)


def _new(draft: Draft, flag: Flag, value: str) -> None:
    """Make a claim; one that names its access modes has those alone, without the native default."""
    row = _parts(draft, flag, value)
    if row is not None:
        modes = row.get("claimInfo", {}).get("accessModes")
        if modes:
            modes.setdefault("readWriteOnce", False)
        draft.add(flag.native, row, flag.name)


def _url(draft: Draft, flag: Flag, value: str) -> None:
    """Read a host name; with users or groups its type is theirs: never open to everybody."""
    row = _parts(draft, flag, value)
    if row is not None:
        for name in ("authorizedUsers", "authorizedGroups"):
            if row.get(name):
                row.setdefault("authorizationType", name)
        draft.add(flag.native, row, flag.name)


def _serving_port(draft: Draft, flag: Flag, value: str) -> None:
    if "=" not in value and not WHOLE.fullmatch(value):
        draft.refuse("SPEC002", flag.name, f"{_cut(repr(value))} is no port", "write 8000, or container=8000,…")
        return
    row = {"container": int(value)} if WHOLE.fullmatch(value) else _parts(draft, flag, value)
    for name, item in (row or {}).items():
        draft.put((*flag.native, name), item, flag.name)


def _topology(kind: str) -> Take:
    def take(draft: Draft, flag: Flag, value: str) -> None:
        other = draft.native["spec"].get("podAffinity")
        if other is not None and other["type"] != kind:
            draft.refuse(
                "FLAGS004",
                flag.name,
                "--required-pod-topology-key and --preferred-pod-topology-key exclude each other",
                "keep one of them",
            )
            return
        draft.put(flag.native, {"type": kind, "key": value}, flag.name)

    return take


def _exclude_node(draft: Draft, flag: Flag, value: list[str]) -> None:
    """Keep off nodes by the host name that each has as a label."""
    spec = draft.native["spec"]
    if "nodeAffinityRequired" not in spec:
        condition = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": []}
        draft.put(flag.native, {"nodeSelectorTerms": [{"matchExpressions": [condition]}]}, flag.name)
    spec["nodeAffinityRequired"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"].extend(value)


SERVING_PORT: Final = {
    "container": Part(("container",), "whole", needed=True),
    "authorization-type": Part(("authorizationType",)),
    "authorized-users": Part(("authorizedUsers",), "list"),
    "authorized-groups": Part(("authorizedGroups",), "list"),
    "cluster-local-access-only": Part(("clusterLocalAccessOnly",), "true"),
    "protocol": Part(("protocol",)),
}
TOLERATION: Final = {
    "operator": Part(("operator",)),
    "key": Part(("key",)),
    "value": Part(("value",)),
    "effect": Part(("effect",)),
    "seconds": Part(("seconds",), "whole"),
}
EXISTING_PVC: Final = {
    "claimname": Part(("claimName",), needed=True),
    "path": Part(("path",), needed=True),
    "ro": Part(("readOnly",), "true"),
    "readonly": Part(("readOnly",), "true"),
}
NEW_PVC: Final = {
    "claimname": Part(("claimName",)),
    "storageclass": Part(("claimInfo", "storageClass")),
    "size": Part(("claimInfo", "size"), needed=True),
    "path": Part(("path",), needed=True),
    "accessmode-rwo": Part(("claimInfo", "accessModes", "readWriteOnce"), "true"),
    "accessmode-rom": Part(("claimInfo", "accessModes", "readOnlyMany"), "true"),
    "accessmode-rwm": Part(("claimInfo", "accessModes", "readWriteMany"), "true"),
    "ro": Part(("readOnly",), "true"),
    "readonly": Part(("readOnly",), "true"),
    "ephemeral": Part(("ephemeral",), "true"),
}
NFS: Final = {
    "path": Part(("path",), needed=True),
    "server": Part(("server",), needed=True),
    "mountpath": Part(("mountPath",), needed=True),
    "readwrite": Part(("readOnly",), "false"),
}
HOST_PATH: Final = {
    "path": Part(("path",), needed=True),
    "mount": Part(("mountPath",), needed=True),
    "mount-propagation": Part(("mountPropagation",)),
    "readwrite": Part(("readOnly",), "false"),
}
SECRET_VOLUME: Final = {
    "path": Part(("mountPath",), needed=True),
    "name": Part(("secret",), needed=True),
    "default-mode": Part(("defaultMode",)),
}
CONFIG_MAP_VOLUME: Final = {
    "name": Part(("configMap",), needed=True),
    "path": Part(("mountPath",), needed=True),
    "subpath": Part(("subPath",)),
    "default-mode": Part(("defaultMode",)),
}
EMPTY_DIR_VOLUME: Final = {
    "name": Part(("name",)),
    "path": Part(("path",), needed=True),
    "medium": Part(("medium",)),
    "size-limit": Part(("sizeLimit",)),
}
GIT_SYNC: Final = {
    "name": Part(("name",)),
    "repository": Part(("repository",), needed=True),
    "path": Part(("path",)),
    "secret": Part(("passwordSecret",)),
    "rev": Part(("revision",)),
    "branch": Part(("branch",)),
}
PORT: Final = {
    "service-type": Part(("serviceType",)),
    "container": Part(("container",), "whole", needed=True),
    "external": Part(("external",), "whole"),
}
EXTERNAL_URL: Final = {
    "container": Part(("container",), "whole"),
    "url": Part(("url",), needed=True),
    "authusers": Part(("authorizedUsers",), "list"),
    "authgroups": Part(("authorizedGroups",), "list"),
}
AUTO: Final = ("spec", "autoscaling")
COMPUTE: Final = ("spec", "compute")
SECURITY: Final = ("spec", "security")
STORAGE: Final = ("spec", "storage")
SERVING: Final = ("spec", "servingConfiguration")
LEVELS: Final = ("very-low", "low", "medium-low", "medium", "medium-high", "high", "very-high")
NOWHERE: Final = ()


def _asset(name: str, what: str, fix: str, *, repeat: bool = False) -> Flag:
    """Return a flag that names something which only Run:ai's control plane has."""
    return Flag(
        name,
        f"{what} of Run:ai's control plane; refused",
        "text",
        NOWHERE,
        _refuse,
        repeat=repeat,
        refusal=("RUN001", f"a {what} lives in Run:ai's control plane and cannot be read from here", fix),
    )


def _of_client(name: str, what: str, kind: Kind, short: str = "") -> Flag:
    """Return a flag that steers Run:ai's client only."""
    return Flag(name, f"{what}; changes nothing here", kind, NOWHERE, _client, short=short)


FLAGS: Final[tuple[Flag, ...]] = (
    # Identity
    Flag("--project", "the project, which is a namespace", "text", ("spec", "project"), _put, short="-p"),
    Flag(
        "--name-prefix",
        "a prefix for a made name; refused",
        "text",
        NOWHERE,
        _refuse,
        refusal=(
            "RUN002",
            "a name that is made anew each time could never be applied again or compared",
            "give the workload its own name",
        ),
    ),
    Flag("--label", "a label of the pods", "pair", ("spec", "labels"), _named, repeat=True),
    Flag("--annotation", "an annotation of the pods", "pair", ("spec", "annotations"), _named, repeat=True),
    # Container
    Flag("--image", "the container's image", "text", ("spec", "image"), _put, short="-i"),
    Flag(
        "--image-pull-policy",
        "when the image is pulled",
        "text",
        ("spec", "imagePullPolicy"),
        _put,
        choices=("Always", "IfNotPresent", "Never"),
    ),
    Flag(
        "--image-pull-secret",
        "a Secret for pulling the image",
        "text",
        ("spec", "imagePullSecrets"),
        _pull_secret,
        repeat=True,
    ),
    Flag(
        "--command",
        "take the words behind -- for the command instead of its arguments",
        "switch",
        ("spec", "command"),
        _apart,
        short="-c",
    ),
    Flag(
        "--environment-variable",
        "a variable; NAME=SECRET:name,key takes it from a Secret",
        "pair",
        ("spec", "environmentVariables"),
        _variable,
        short="-e",
        repeat=True,
    ),
    Flag(
        "--environment",
        "a variable, as in 2.20; an environment asset, as since then, is refused",
        "text",
        ("spec", "environmentVariables"),
        _environment,
        repeat=True,
        refusal=(
            "RUN001",
            "an environment asset lives in Run:ai's control plane and cannot be read from here",
            "give --image, --command and -e NAME=VALUE yourself",
        ),
    ),
    Flag(
        "--env-secret",
        "a variable from a Secret: NAME=SECRET,key=KEY",
        "pair",
        ("spec", "environmentVariables"),
        _of_secret,
        repeat=True,
    ),
    Flag(
        "--env-pod-field-ref",
        "a variable from a field of the pod: NAME=metadata.name",
        "pair",
        ("spec", "environmentVariables"),
        _of_field,
        repeat=True,
    ),
    Flag("--working-dir", "the folder the program starts in", "text", ("spec", "workingDir"), _put),
    Flag("--create-home-dir", "a home folder; refused", "switch", ("spec", "createHomeDir"), _put),
    Flag("--large-shm", "a large /dev/shm", "switch", (*COMPUTE, "largeShmRequest"), _put),
    # Compute
    Flag("--cpu-core-request", "CPU cores reserved", "number", (*COMPUTE, "cpuCoreRequest"), _put),
    Flag("--cpu-core-limit", "CPU cores at most", "number", (*COMPUTE, "cpuCoreLimit"), _put),
    Flag("--cpu-memory-request", "main memory reserved: 16Gi", "text", (*COMPUTE, "cpuMemoryRequest"), _put),
    Flag("--cpu-memory-limit", "main memory at most", "text", (*COMPUTE, "cpuMemoryLimit"), _put),
    Flag("--gpu-devices-request", "GPU devices", "whole", (*COMPUTE, "gpuDevicesRequest"), _put, short="-g"),
    Flag(
        "--gpu-request-type",
        "what states the part of a GPU",
        "text",
        (*COMPUTE, "gpuRequestType"),
        _put,
        choices=("portion", "memory", "migProfile"),
    ),
    Flag("--gpu-portion-request", "part of each GPU, 0 to 1", "number", (*COMPUTE, "gpuPortionRequest"), _put),
    Flag("--gpu-portion-limit", "part of each GPU at most", "number", (*COMPUTE, "gpuPortionLimit"), _put),
    Flag("--gpu-memory-request", "GPU memory per device: 20G", "text", (*COMPUTE, "gpuMemoryRequest"), _put),
    Flag("--gpu-memory-limit", "GPU memory per device at most", "text", (*COMPUTE, "gpuMemoryLimit"), _put),
    Flag(
        "--extended-resource",
        "another device: rdma/hca=1",
        "pair",
        (*COMPUTE, "extendedResources"),
        _resource,
        repeat=True,
    ),
    # Autoscaling
    Flag("--min-replicas", "fewest replicas, 0 to rest at zero", "whole", (*AUTO, "minReplicas"), _put),
    Flag("--max-replicas", "most replicas", "whole", (*AUTO, "maxReplicas"), _put),
    Flag("--initial-replicas", "replicas of a new revision", "whole", (*AUTO, "initialReplicas"), _put),
    Flag("--activation-replicas", "replicas on waking", "whole", (*AUTO, "activationReplicas"), _put),
    Flag(
        "--metric",
        "what moves the replicas: concurrency, throughput, latency, gpu-utilization, any metric",
        "text",
        (*AUTO, "metric"),
        _put,
    ),
    Flag("--metric-threshold", "the value per replica", "number", (*AUTO, "metricThreshold"), _put),
    Flag(
        "--metric-threshold-percentage",
        "how much of the threshold to use, 1 to 100",
        "number",
        (*AUTO, "metricThresholdPercentage"),
        _put,
    ),
    Flag(
        "--concurrency-hard-limit",
        "requests in flight per replica at most, 0 for no limit",
        "whole",
        (*AUTO, "concurrencyHardLimit"),
        _put,
    ),
    Flag(
        "--scale-down-delay-seconds",
        "how long demand must be lower first",
        "whole",
        (*AUTO, "scaleDownDelaySeconds"),
        _put,
    ),
    Flag(
        "--scale-to-zero-retention-seconds",
        "how long the last replica stays",
        "whole",
        (*AUTO, "scaleToZeroRetentionSeconds"),
        _put,
    ),
    Flag(
        "--initialization-timeout-seconds",
        "how long a revision may take to be ready",
        "whole",
        (*SERVING, "initializationTimeoutSeconds"),
        _put,
    ),
    Flag(
        "--request-timeout-seconds",
        "how long a request may take",
        "whole",
        (*SERVING, "requestTimeoutSeconds"),
        _put,
    ),
    # Network
    Flag(
        "--serving-port",
        "the port: 8000, or container=8000,protocol=grpc,… with : between list items",
        "fields",
        ("spec", "servingPort"),
        _serving_port,
        parts=SERVING_PORT,
    ),
    Flag(
        "--port",
        "a further port; only the serving port",
        "fields",
        ("spec", "ports"),
        _row,
        repeat=True,
        parts=PORT,
    ),
    Flag(
        "--external-url",
        "a host name of your own",
        "fields",
        ("spec", "exposedUrls"),
        _url,
        repeat=True,
        parts=EXTERNAL_URL,
    ),
    # Scheduling
    Flag("--node-pools", "node pools in order", "list", ("spec", "nodePools"), _extend, repeat=True),
    Flag("--node-type", "the nodes' type label", "text", ("spec", "nodeType"), _put),
    Flag(
        "--exclude-node",
        "a node to keep off",
        "list",
        ("spec", "nodeAffinityRequired"),
        _exclude_node,
        repeat=True,
    ),
    Flag(
        "--toleration",
        "a taint to put up with",
        "fields",
        ("spec", "tolerations"),
        _row,
        repeat=True,
        parts=TOLERATION,
    ),
    Flag(
        "--required-pod-topology-key",
        "keep the replicas together by this node label",
        "text",
        ("spec", "podAffinity"),
        _topology("Required"),
    ),
    Flag(
        "--preferred-pod-topology-key",
        "keep the replicas together if possible",
        "text",
        ("spec", "podAffinity"),
        _topology("Preferred"),
    ),
    Flag("--priority", "which goes first", "text", ("spec", "priorityClass"), _put, choices=LEVELS),
    Flag(
        "--preemptibility",
        "whether the GPUs may be taken back",
        "text",
        ("spec", "preemptibility"),
        _put,
        choices=("preemptible", "non-preemptible"),
    ),
    # Storage
    Flag(
        "--existing-pvc",
        "mount a claim",
        "fields",
        (*STORAGE, "pvc"),
        _existing,
        repeat=True,
        parts=EXISTING_PVC,
    ),
    Flag("--new-pvc", "make and mount a claim", "fields", (*STORAGE, "pvc"), _new, repeat=True, parts=NEW_PVC),
    Flag("--nfs", "an NFS share; refused", "fields", (*STORAGE, "nfs"), _row, repeat=True, parts=NFS),
    Flag(
        "--host-path",
        "a folder of the node; refused",
        "fields",
        (*STORAGE, "hostPath"),
        _row,
        repeat=True,
        parts=HOST_PATH,
    ),
    Flag(
        "--secret-volume",
        "files from a Secret",
        "fields",
        (*STORAGE, "secretVolume"),
        _row,
        repeat=True,
        parts=SECRET_VOLUME,
    ),
    Flag(
        "--configmap-map-volume",
        "files from a ConfigMap",
        "fields",
        (*STORAGE, "configMapVolume"),
        _row,
        repeat=True,
        parts=CONFIG_MAP_VOLUME,
    ),
    Flag(
        "--empty-dir-volume",
        "a scratch folder",
        "fields",
        (*STORAGE, "emptyDirVolume"),
        _row,
        repeat=True,
        parts=EMPTY_DIR_VOLUME,
    ),
    Flag(
        "--git-sync",
        "a git repository; refused",
        "fields",
        (*STORAGE, "git"),
        _row,
        repeat=True,
        parts=GIT_SYNC,
    ),
    Flag(
        "--datavolume",
        "a Run:ai data volume; refused",
        "text",
        NOWHERE,
        _refuse,
        repeat=True,
        refusal=(
            "STO004",
            "a Run:ai data volume lives in Run:ai's control plane",
            "use the claim behind it: --existing-pvc claimname=…,path=…",
        ),
    ),
    # Security
    Flag("--run-as-uid", "the user id", "whole", (*SECURITY, "runAsUid"), _put),
    Flag("--run-as-gid", "the group id", "whole", (*SECURITY, "runAsGid"), _put),
    Flag("--run-as-non-root", "refuse to run as root", "switch", (*SECURITY, "runAsNonRoot"), _put),
    Flag(
        "--run-as-user",
        "run as whoever submits; refused",
        "switch",
        NOWHERE,
        _refuse,
        refusal=(
            "SEC004",
            "--run-as-user means whoever submits, and no directory here says who that is",
            "give --run-as-uid and --run-as-gid",
        ),
    ),
    Flag(
        "--supplemental-groups",
        "more group ids",
        "list",
        (*SECURITY, "supplementalGroups"),
        _apart,
        repeat=True,
    ),
    Flag(
        "--user-group-source",
        "where user and group ids come from",
        "text",
        (*SECURITY, "uidGidSource"),
        _put,
        choices=("fromTheImage", "fromIdpToken"),
    ),
    Flag(
        "--seccomp-profile",
        "the system call filter",
        "text",
        (*SECURITY, "seccompProfileType"),
        _put,
        choices=("RuntimeDefault", "Unconfined", "Localhost"),
    ),
    Flag("--capability", "a Linux capability", "text", (*SECURITY, "capabilities"), _add, repeat=True),
    Flag(
        "--host-ipc",
        "the node's IPC; refused",
        "switch",
        NOWHERE,
        _refuse,
        refusal=("SEC006", "sharing the node's IPC breaks the pod's isolation", "use --large-shm"),
    ),
    Flag(
        "--host-network",
        "the node's network; refused",
        "switch",
        NOWHERE,
        _refuse,
        refusal=("SEC006", "sharing the node's network breaks the pod's isolation", "remove it"),
    ),
    Flag(
        "--privileged",
        "full access to the node; refused",
        "switch",
        NOWHERE,
        _refuse,
        refusal=("SEC006", "a privileged container is as good as root on the node", "remove it"),
    ),
    # What only Run:ai's control plane has
    _asset("--template", "template", "give the template's flags yourself"),
    _asset("--compute", "compute asset", "give --gpu-devices-request, --cpu-core-request and so on yourself"),
    _asset(
        "--datasource",
        "data source asset",
        "give --existing-pvc, --secret-volume or --configmap-map-volume",
        repeat=True,
    ),
    Flag(
        "--env-my-credentials",
        "a variable from a user's credential; refused",
        "text",
        NOWHERE,
        _refuse,
        repeat=True,
        refusal=(
            "ENV003",
            "a Run:ai user's credential is known to Run:ai's control plane only",
            "put it into a Secret of the project and use --env-secret NAME=SECRET,key=KEY",
        ),
    ),
    Flag(
        "--image-pull-my-credentials",
        "a user's credential for pulling; refused",
        "text",
        NOWHERE,
        _refuse,
        repeat=True,
        refusal=(
            "ENV003",
            "a Run:ai user's credential is known to Run:ai's control plane only",
            "make a Secret of type kubernetes.io/dockerconfigjson and use --image-pull-secret",
        ),
    ),
    Flag(
        "--attach",
        "a terminal in the container; refused",
        "switch",
        NOWHERE,
        _refuse,
        refusal=("CRD002", "a server that answers requests has no terminal to attach to", "remove it"),
    ),
    # Run:ai's client
    _of_client("--pod-running-timeout", "how long to wait for the pod", "text"),
    _of_client("--wait-for-submit", "how long to wait for the workload", "text"),
    _of_client("--config-file", "the client's configuration file", "text"),
    _of_client("--config-path", "the client's configuration folder", "text"),
    _of_client("--debug", "more words", "switch", "-d"),
    _of_client("--quiet", "fewer words", "switch", "-q"),
    _of_client("--verbose", "more words", "switch"),
    Flag("--help", "print this", "switch", NOWHERE, _apart, short="-h"),
)
BY_NAME: Final = {flag.name: flag for flag in FLAGS} | {flag.short: flag for flag in FLAGS if flag.short}


# From words to flags.


@dataclass(frozen=True, slots=True)
class Given:
    """One flag as it was given: its text, or None for a switch without one."""

    flag: Flag
    text: str | None


def read_flags(argv: Sequence[str], profile: Profile) -> Reading:  # noqa: ARG001 - every reader has this shape
    """Return a command line in native form, with every problem at once.

    ``argv`` is what follows ``runai inference submit``; those words may stand in front of it.
    """
    draft = Draft(document(NAMELESS, {}))
    draft.origins["metadata", "name"] = ("NAME",)
    words, rest = _split(_without_command(list(argv)))
    names, given = _scan(draft, words)
    for item in given:
        _take(draft, item)
    _name(draft, names)
    _groups(draft, given)
    _command(draft, rest)
    for flag in FLAGS:
        if flag.native:
            draft.origins.setdefault(flag.native, (flag.name,))
    return Reading(draft.native, draft.origins, draft.problems)


def _without_command(argv: list[str]) -> list[str]:
    """Drop a copied ``runai inference submit``; without ``runai`` the first word is a name."""
    if argv[:1] != [COMMAND[0]]:
        return argv
    place = 0
    for word in COMMAND:
        if argv[place : place + 1] == [word]:
            place += 1
    return argv[place:]


def _split(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """Return the words before ``--``, and those behind it if it is there."""
    if "--" not in argv:
        return argv, None
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


def _scan(draft: Draft, words: list[str]) -> tuple[list[str], list[Given]]:
    """Return the names and the flags among the words."""
    names: list[str] = []
    given: list[Given] = []
    place = 0
    while place < len(words):
        word = words[place]
        following = words[place + 1] if place + 1 < len(words) else None
        place += 1
        if not word.startswith("-") or word == "-":
            names.append(word)
        elif word.startswith("--"):
            place += _long(draft, word, following, given)
        else:
            place += _short(draft, word, following, given)
    return names, given


def _long(draft: Draft, word: str, following: str | None, given: list[Given]) -> int:
    """Read ``--flag`` or ``--flag=value``; return how many words more it took."""
    name, equals, text = word.partition("=")
    flag = BY_NAME.get(name)
    if flag is None:
        draft.problems.append(_unknown(name))
        # A value behind an unknown flag would be taken for a second name.
        return int(not equals and _is_value(following))
    if equals:
        given.append(Given(flag, text))
        return 0
    return _with_value(draft, flag, following, given)


def _short(draft: Draft, word: str, following: str | None, given: list[Given]) -> int:
    """Read ``-g 1``, ``-g1``, ``-g=1``, or switches in a row like ``-qd``."""
    for place in range(1, len(word)):
        flag = BY_NAME.get("-" + word[place])
        if flag is None:
            draft.problems.append(_unknown("-" + word[place]))
            return 0
        rest = word[place + 1 :]
        if rest.startswith("=") or (rest and flag.kind != "switch"):
            given.append(Given(flag, rest.removeprefix("=")))
            return 0
        if flag.kind != "switch":
            return _with_value(draft, flag, following, given)
        given.append(Given(flag, None))
    return 0


def _with_value(draft: Draft, flag: Flag, following: str | None, given: list[Given]) -> int:
    if flag.kind == "switch":
        given.append(Given(flag, None))
        return 0
    if following is None or _is_flag(following):
        draft.refuse("FLAGS002", flag.name, f"{flag.name} has no value", f"write {_form(flag)}")
        return 0
    given.append(Given(flag, following))
    return 1


def _is_flag(word: str) -> bool:
    return word.partition("=")[0] in BY_NAME or (word.startswith("--") and len(word) > len("--"))


def _is_value(word: str | None) -> bool:
    return word is not None and not word.startswith("-")


def _unknown(name: str) -> Problem:
    from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

    right = HABITS.get(name)
    if right is None:
        close = get_close_matches(name, BY_NAME, 1, 0.7) if name.startswith("--") else []
        right = close[0] if close else None
    hint = f"did you mean {right}?" if right else "see the list of flags with --help"
    return Problem("FLAGS001", (name,), f"there is no flag {_cut(name)}", hint)


# From flags to the native document.


def _take(draft: Draft, item: Given) -> None:
    flag = item.flag
    if not flag.repeat and flag.name in draft.given:
        draft.warn(
            "FLAGS004",
            flag.name,
            f"{flag.name} is given more than once; as in Run:ai the last one counts",
            "keep one",
        )
    draft.given[flag.name] = item.text or ""
    value = _read(draft, flag, item.text)
    if value is not None:
        flag.take(draft, flag, value)


def _read(draft: Draft, flag: Flag, text: str | None) -> Any:
    """Return a value of the flag's kind, or None with a problem."""
    if flag.kind == "switch":
        value: Any = True if text is None else TRUTHS.get(text)
        wanted = "neither true nor false"
    elif not text:
        draft.refuse("FLAGS002", flag.name, f"{flag.name} has no value", f"write {_form(flag)}")
        return None
    else:
        value, wanted = READERS[flag.kind](text)
    if value is None:
        draft.refuse("SPEC002", flag.name, f"{_cut(repr(text))} is {wanted}", f"write {_form(flag)}")
    return value


def _whole(text: str) -> tuple[int | None, str]:
    return (int(text) if WHOLE.fullmatch(text) else None), "no whole number"


def _decimal(text: str) -> tuple[float | None, str]:
    if WHOLE.fullmatch(text):
        return int(text), ""
    return (float(text) if NUMBER.fullmatch(text) else None), "no number"


def _list(text: str) -> tuple[list[str] | None, str]:
    return [part.strip() for part in text.split(",") if part.strip()] or None, "an empty list"


def _pair(text: str) -> tuple[tuple[str, str] | None, str]:
    key, equals, value = text.partition("=")
    return ((key, value) if equals and key else None), "no KEY=VALUE"


READERS: Final[dict[Kind, Callable[[str], tuple[Any, str]]]] = {
    "text": lambda text: (text, ""),
    "fields": lambda text: (text, ""),
    "whole": _whole,
    "number": _decimal,
    "list": _list,
    "pair": _pair,
}


def _parts(draft: Draft, flag: Flag, text: str) -> dict[str, Any] | None:
    """Return the native entry of ``claimname=data,path=/data,readonly``, or None with problems."""
    row: dict[str, Any] = {}
    seen: set[str] = set()
    before = len(draft.problems)
    for key, value in _fields(text):
        part = flag.parts.get(key)
        if part is None:
            draft.refuse(
                "SPEC001",
                flag.name,
                f"{flag.name} has no {_cut(key)}",
                f"use {', '.join(flag.parts)}",
            )
            continue
        seen.add(key)
        read = _part(part, value)
        if read is None:
            shown = "nothing" if value is None else _cut(repr(value))
            draft.refuse("SPEC002", flag.name, f"{key} is {shown}, but should be {PART_WORDS[part.kind]}", "correct it")
            continue
        place = row
        for name in part.path[:-1]:
            place = place.setdefault(name, {})
        place[part.path[-1]] = read
    for key, part in flag.parts.items():
        if part.needed and key not in seen:
            draft.refuse("SPEC003", flag.name, f"{flag.name} has no {key}", f"add {key}=…: {_form(flag)}")
    return row if len(draft.problems) == before else None


PART_WORDS: Final = {
    "text": "a text",
    "whole": "a whole number",
    "list": "names with : between them",
    "true": "true or false, or stand alone",
    "false": "true or false, or stand alone",
}


def _part(part: Part, value: str | None) -> Any:
    """Return the value of one key, or None if it is of the wrong form."""
    if part.kind in {"true", "false"}:
        said = True if value is None else TRUTHS.get(value)
        return said if said is None else said == (part.kind == "true")
    if not value:
        return None
    if part.kind == "whole":
        return int(value) if WHOLE.fullmatch(value) else None
    if part.kind == "list":
        return [name for name in value.split(":") if name] or None
    return value


def _fields(text: str) -> Iterator[tuple[str, str | None]]:
    for piece in text.split(","):
        key, equals, value = piece.partition("=")
        yield key.strip(), value if equals else None


def _name(draft: Draft, names: list[str]) -> None:
    if not names and "--name-prefix" not in draft.given:
        draft.refuse("SPEC003", "NAME", "the workload has no name", "write it first: chat --image …")
    for extra in names[1:]:
        hint = "put the program's own words behind --"
        if extra in TRUTHS:
            hint = f"a switch takes its value behind =: --large-shm={extra}"
        draft.refuse("FLAGS003", "NAME", f"{_cut(repr(extra))} is one word too many", hint)
    if names:
        draft.put(("metadata", "name"), names[0], "NAME")


def _groups(draft: Draft, given: list[Given]) -> None:
    """Join the group ids of every ``--supplemental-groups`` into the one text that the spec has."""
    name = "--supplemental-groups"
    ids = [part.strip() for item in given if item.flag.name == name for part in (item.text or "").split(",")]
    found = [part for part in ids if part]
    if found:
        draft.put((*SECURITY, "supplementalGroups"), ",".join(found), name)


def _command(draft: Draft, rest: list[str] | None) -> None:
    """Take the words behind ``--`` for the arguments, or with ``--command`` for the command."""
    is_command = "--command" in draft.given and TRUTHS.get(draft.given["--command"] or "true", False)
    if is_command and not rest:
        draft.refuse(
            "FLAGS002",
            "--command",
            "--command needs the command behind --",
            "write --command -- python server.py",
        )
    elif rest:
        draft.put(("spec", "command" if is_command else "args"), rest, "--command" if is_command else "--")


# For people.


def _form(flag: Flag) -> str:
    """Return how a flag is written: ``-g, --gpu-devices-request N``."""
    shown = f"{flag.name} {{{'|'.join(flag.choices)}}}" if flag.choices else f"{flag.name} {PLACEHOLDERS[flag.kind]}"
    if flag.parts:
        shown = f"{flag.name} {','.join(f'{key}=…' for key in flag.parts)}"
    return shown.strip()


def usage() -> str:
    """Return the help text: one line for each flag, in the table's order."""
    lines = ["NAME [flags] [-- words]", ""]
    forms = [(f"{flag.short}, " if flag.short else "    ") + f"{flag.name} {PLACEHOLDERS[flag.kind]}" for flag in FLAGS]
    width = max(len(form.rstrip()) for form in forms)
    for flag, form in zip(FLAGS, forms, strict=True):
        more = f" ({', '.join(flag.choices)})" if flag.choices else ""
        more += "; may be repeated" if flag.repeat else ""
        lines.append(f"  {form.rstrip():<{width}}  {flag.help}{more}")
    return "\n".join(lines) + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004 - a line's worth
