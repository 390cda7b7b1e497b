"""Run:ai's command line, ``runai inference submit NAME …``, as a table and a reader.

Upstream: run-ai/docs, runai_inference_submit.md (2.20), and NVIDIA's page of ``runai inference standard
submit`` (2.24); flags of either are read. Parsing follows spf13/pflag, which Run:ai uses: ``--flag value``,
``--flag=value``, ``-g 1``, ``-g1``, switches that take a value only behind ``=``. argparse would stop at the
first mistake; this collects all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.base.problems import cut, warning
from ebbtide.readers.reading import document
from ebbtide.readers.table import (
    ANEW,
    NAMELESS,
    Draft,
    FieldRow,
    RefusedValueError,
    Subfield,
    apply_row,
    exposed_url,
    if_true,
    leave,
    named,
    new_claim,
    origins_of,
    path_of,
    resource,
    set_at,
    variable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebbtide.base.problems import Path
    from ebbtide.profile.models import Profile

#: The words before the name in a copied command line.
COMMAND: Final = ("runai", "inference", "standard", "submit")
WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}")
NUMBER: Final = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})")
#: Switch values, as strconv.ParseBool reads them.
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


# The forms of text.


def _whole(text: str) -> int | None:
    return int(text) if WHOLE.fullmatch(text) else None


def _decimal(text: str) -> float | None:
    return _whole(text) if WHOLE.fullmatch(text) else float(text) if NUMBER.fullmatch(text) else None


def _words(text: str) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] or None


def _pair(text: str) -> tuple[str, str] | None:
    key, equals, value = text.partition("=")
    return (key, value) if equals and key else None


class Form(NamedTuple):
    """One form of a flag's text: its name in usage, the conversion to None or a value, and the message for None."""

    placeholder: str
    read: Callable[[str], Any]
    wrong: str = ""


#: The forms of a flag's text.
FORMS: Final = {
    "text": Form("TEXT", str),
    "whole": Form("N", _whole, "no whole number"),
    "number": Form("NUMBER", _decimal, "no number"),
    "list": Form("A,B", _words, "an empty list"),
    "pair": Form("KEY=VALUE", _pair, "no KEY=VALUE"),
    "fields": Form("KEY=VALUE,…", str),
    "switch": Form("", TRUTHS.get, "neither true nor false"),
}
#: The forms of one key's text in ``claimname=data,path=/data``.
PART_FORMS: Final = {
    "text": Form("", str, "a text"),
    "whole": Form("", _whole, "a whole number"),
    "list": Form("", lambda text: [name for name in text.split(":") if name] or None, "names with : between them"),
    "true": Form("", TRUTHS.get, "true or false, or stand alone"),
    "false": Form("", lambda text: None if text not in TRUTHS else not TRUTHS[text], "true or false, or stand alone"),
}


@dataclass(frozen=True, slots=True)
class Flag(FieldRow):
    """One flag: for the reader, for usage, and for completion."""

    kind: str = "text"
    help: str = ""
    short: str = ""
    choices: tuple[str, ...] = ()


# Conversions of values.


def _of_secret(pair: tuple[str, str]) -> dict[str, Any]:
    name, text = pair
    secret, _, rest = text.partition(",")
    key = rest.removeprefix("key=")
    if not secret or not key or key == rest:
        raise RefusedValueError("SPEC002", f"{cut(text)} names no key of a Secret", "write NAME=SECRET,key=KEY")
    return {"name": name, "secret": {"name": secret, "key": key}}


def _of_field(pair: tuple[str, str]) -> dict[str, Any]:
    return {"name": pair[0], "podFieldRef": {"path": pair[1]}}


def _environment(text: str) -> dict[str, Any]:
    """Read ``NAME=VALUE`` as 2.20 did; since then the flag names an asset of the control plane."""
    pair = _pair(text)
    if pair is None:
        raise RefusedValueError(
            "RUN001", ASSET.format("an environment asset"), "give --image, --command and -e NAME=VALUE yourself"
        )
    return variable(pair)


def _pull_secret(name: str) -> dict[str, str]:
    return {"name": name}


def _existing_claim(entry: dict[str, Any]) -> dict[str, Any]:
    return {"existingPvc": True, **entry}


# Flags that one native field cannot hold.


def _serving_port(draft: Draft, flag: Flag, text: str, where: Path) -> None:
    port = _whole(text)
    if port is None and "=" not in text:
        draft.refuse("SPEC002", where, f"{cut(repr(text))} is no port", "write 8000, or container=8000,…")
        return
    entry = _entry(draft, flag, text) if port is None else {"container": port}
    for name, item in (entry or {}).items():
        draft.put((*flag.native, name), item, where)


def _topology(draft: Draft, flag: Flag, key: str, where: Path, *, kind: str) -> None:
    other = draft.spec.get("podAffinity")
    if other is not None and other["type"] != kind:
        message = "--required-pod-topology-key and --preferred-pod-topology-key exclude each other"
        draft.refuse("FLAGS004", where, message, "keep one of them")
        return
    draft.put(flag.native, {"type": kind, "key": key}, where)


def _exclude_node(draft: Draft, flag: Flag, nodes: list[str], where: Path) -> None:
    """Keep off nodes by the host name that each has as a label."""
    spec = draft.spec
    if "nodeAffinityRequired" not in spec:
        condition = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": []}
        draft.put(flag.native, {"nodeSelectorTerms": [{"matchExpressions": [condition]}]}, where)
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
ASSET: Final = "{} lives in Run:ai's control plane and cannot be read from here"


def _asset(name: str, what: str, fix: str, *, many: bool = False) -> Flag:
    """Return a flag that names something which only Run:ai's control plane has."""
    about = f"{what} of Run:ai's control plane; refused"
    return Flag.refused(name, "RUN001", ASSET.format(f"a {what}"), fix, help=about, many=many)


def _of_client(name: str, what: str, kind: str, short: str = "") -> Flag:
    """Return a flag that steers Run:ai's client only."""
    message = f"{name} steers Run:ai's own client and changes nothing in what is made"
    refusal = warning("FLAGS005", (), message, "remove it")
    return Flag(name, kind=kind, help=f"{what}; changes nothing here", short=short, refusal=refusal)


FLAGS: Final[tuple[Flag, ...]] = (
    # Identity
    Flag("--project", "spec.project", help="the project, which is a namespace", short="-p"),
    Flag.refused(
        "--name-prefix", "RUN002", ANEW, "give the workload its own name", help="a prefix for a made name; refused"
    ),
    Flag("--label", "spec.labels", "pair", help="a label of the pods", many=True, read=named),
    Flag("--annotation", "spec.annotations", "pair", help="an annotation of the pods", many=True, read=named),
    # Container
    Flag("--image", "spec.image", help="the container's image", short="-i"),
    Flag(
        "--image-pull-policy",
        "spec.imagePullPolicy",
        help="when the image is pulled",
        choices=("Always", "IfNotPresent", "Never"),
    ),
    Flag(
        "--image-pull-secret",
        "spec.imagePullSecrets",
        help="a Secret for pulling the image",
        many=True,
        read=_pull_secret,
    ),
    Flag(
        "--command",
        "spec.command",
        "switch",
        help="take the words behind -- for the command instead of its arguments",
        take=leave,
        short="-c",
    ),
    Flag(
        "--environment-variable",
        "spec.environmentVariables",
        "pair",
        help="a variable; NAME=SECRET:name,key takes it from a Secret",
        many=True,
        read=variable,
        short="-e",
    ),
    Flag(
        "--environment",
        "spec.environmentVariables",
        help="a variable, as in 2.20; an environment asset, as since then, is refused",
        many=True,
        read=_environment,
    ),
    Flag(
        "--env-secret",
        "spec.environmentVariables",
        "pair",
        help="a variable from a Secret: NAME=SECRET,key=KEY",
        many=True,
        read=_of_secret,
    ),
    Flag(
        "--env-pod-field-ref",
        "spec.environmentVariables",
        "pair",
        help="a variable from a field of the pod: NAME=metadata.name",
        many=True,
        read=_of_field,
    ),
    Flag("--working-dir", "spec.workingDir", help="the folder the program starts in"),
    Flag("--create-home-dir", "spec.createHomeDir", "switch", help="a home folder; refused"),
    Flag("--large-shm", "spec.compute.largeShmRequest", "switch", help="a large /dev/shm"),
    # Compute
    Flag("--cpu-core-request", "spec.compute.cpuCoreRequest", "number", help="CPU cores reserved"),
    Flag("--cpu-core-limit", "spec.compute.cpuCoreLimit", "number", help="CPU cores at most"),
    Flag("--cpu-memory-request", "spec.compute.cpuMemoryRequest", help="main memory reserved: 16Gi"),
    Flag("--cpu-memory-limit", "spec.compute.cpuMemoryLimit", help="main memory at most"),
    Flag("--gpu-devices-request", "spec.compute.gpuDevicesRequest", "whole", help="GPU devices", short="-g"),
    Flag(
        "--gpu-request-type",
        "spec.compute.gpuRequestType",
        help="what states the part of a GPU",
        choices=("portion", "memory", "migProfile"),
    ),
    Flag("--gpu-portion-request", "spec.compute.gpuPortionRequest", "number", help="part of each GPU, 0 to 1"),
    Flag("--gpu-portion-limit", "spec.compute.gpuPortionLimit", "number", help="part of each GPU at most"),
    Flag("--gpu-memory-request", "spec.compute.gpuMemoryRequest", help="GPU memory per device: 20G"),
    Flag("--gpu-memory-limit", "spec.compute.gpuMemoryLimit", help="GPU memory per device at most"),
    Flag(
        "--extended-resource",
        "spec.compute.extendedResources",
        "pair",
        help="another device: rdma/hca=1",
        many=True,
        read=resource,
    ),
    # Autoscaling
    Flag("--min-replicas", "spec.autoscaling.minReplicas", "whole", help="fewest replicas, 0 to rest at zero"),
    Flag("--max-replicas", "spec.autoscaling.maxReplicas", "whole", help="most replicas"),
    Flag("--initial-replicas", "spec.autoscaling.initialReplicas", "whole", help="replicas of a new revision"),
    Flag("--activation-replicas", "spec.autoscaling.activationReplicas", "whole", help="replicas on waking"),
    Flag(
        "--metric",
        "spec.autoscaling.metric",
        help="what moves the replicas: concurrency, throughput, latency, gpu-utilization, any metric",
    ),
    Flag("--metric-threshold", "spec.autoscaling.metricThreshold", "number", help="the value per replica"),
    Flag(
        "--metric-threshold-percentage",
        "spec.autoscaling.metricThresholdPercentage",
        "number",
        help="how much of the threshold to use, 1 to 100",
    ),
    Flag(
        "--concurrency-hard-limit",
        "spec.autoscaling.concurrencyHardLimit",
        "whole",
        help="requests in flight per replica at most, 0 for no limit",
    ),
    Flag(
        "--scale-down-delay-seconds",
        "spec.autoscaling.scaleDownDelaySeconds",
        "whole",
        help="how long demand must be lower first",
    ),
    Flag(
        "--scale-to-zero-retention-seconds",
        "spec.autoscaling.scaleToZeroRetentionSeconds",
        "whole",
        help="how long the last replica stays",
    ),
    Flag(
        "--initialization-timeout-seconds",
        "spec.servingConfiguration.initializationTimeoutSeconds",
        "whole",
        help="how long a revision may take to be ready",
    ),
    Flag(
        "--request-timeout-seconds",
        "spec.servingConfiguration.requestTimeoutSeconds",
        "whole",
        help="how long a request may take",
    ),
    # Network
    Flag(
        "--serving-port",
        "spec.servingPort",
        "fields",
        help="the port: 8000, or container=8000,protocol=grpc,… with : between list items",
        take=_serving_port,
        parts=SERVING_PORT,
    ),
    Flag("--port", "spec.ports", "fields", help="a further port; only the serving port", many=True, parts=PORT),
    Flag(
        "--external-url",
        "spec.exposedUrls",
        "fields",
        help="a host name of your own",
        many=True,
        read=exposed_url,
        parts=EXTERNAL_URL,
    ),
    # Scheduling
    Flag("--node-pools", "spec.nodePools", "list", help="node pools in order", many=True),
    Flag("--node-type", "spec.nodeType", help="the nodes' type label"),
    Flag(
        "--exclude-node", "spec.nodeAffinityRequired", "list", help="a node to keep off", many=True, take=_exclude_node
    ),
    Flag("--toleration", "spec.tolerations", "fields", help="a taint to put up with", many=True, parts=TOLERATION),
    Flag(
        "--required-pod-topology-key",
        "spec.podAffinity",
        help="keep the replicas together by this node label",
        take=partial(_topology, kind="Required"),
    ),
    Flag(
        "--preferred-pod-topology-key",
        "spec.podAffinity",
        help="keep the replicas together if possible",
        take=partial(_topology, kind="Preferred"),
    ),
    Flag("--priority", "spec.priorityClass", help="which goes first", choices=LEVELS),
    Flag(
        "--preemptibility",
        "spec.preemptibility",
        help="whether the GPUs may be taken back",
        choices=("preemptible", "non-preemptible"),
    ),
    # Storage
    Flag(
        "--existing-pvc",
        "spec.storage.pvc",
        "fields",
        help="mount a claim",
        many=True,
        read=_existing_claim,
        parts=EXISTING_PVC,
    ),
    Flag(
        "--new-pvc",
        "spec.storage.pvc",
        "fields",
        help="make and mount a claim",
        many=True,
        read=new_claim,
        parts=NEW_PVC,
    ),
    Flag("--nfs", "spec.storage.nfs", "fields", help="an NFS share; refused", many=True, parts=NFS),
    Flag(
        "--host-path",
        "spec.storage.hostPath",
        "fields",
        help="a folder of the node; refused",
        many=True,
        parts=HOST_PATH,
    ),
    Flag(
        "--secret-volume",
        "spec.storage.secretVolume",
        "fields",
        help="files from a Secret",
        many=True,
        parts=SECRET_VOLUME,
    ),
    Flag(
        "--configmap-map-volume",
        "spec.storage.configMapVolume",
        "fields",
        help="files from a ConfigMap",
        many=True,
        parts=CONFIG_MAP_VOLUME,
    ),
    Flag(
        "--empty-dir-volume",
        "spec.storage.emptyDirVolume",
        "fields",
        help="a scratch folder",
        many=True,
        parts=EMPTY_DIR_VOLUME,
    ),
    Flag("--git-sync", "spec.storage.git", "fields", help="a git repository; refused", many=True, parts=GIT_SYNC),
    Flag.refused(
        "--datavolume",
        "STO004",
        "a Run:ai data volume lives in Run:ai's control plane",
        "use the claim behind it: --existing-pvc claimname=…,path=…",
        help="a Run:ai data volume; refused",
        many=True,
    ),
    # Security
    Flag("--run-as-uid", "spec.security.runAsUid", "whole", help="the user id"),
    Flag("--run-as-gid", "spec.security.runAsGid", "whole", help="the group id"),
    Flag("--run-as-non-root", "spec.security.runAsNonRoot", "switch", help="refuse to run as root"),
    Flag.refused(
        "--run-as-user",
        "SEC004",
        "--run-as-user means whoever submits, and no directory here says who that is",
        "give --run-as-uid and --run-as-gid",
        help="run as whoever submits; refused",
        kind="switch",
        read=if_true,
    ),
    Flag(
        "--supplemental-groups",
        "spec.security.supplementalGroups",
        "list",
        help="more group ids",
        many=True,
        take=leave,
    ),
    Flag(
        "--user-group-source",
        "spec.security.uidGidSource",
        help="where user and group ids come from",
        choices=("fromTheImage", "fromIdpToken"),
    ),
    Flag(
        "--seccomp-profile",
        "spec.security.seccompProfileType",
        help="the system call filter",
        choices=("RuntimeDefault", "Unconfined", "Localhost"),
    ),
    Flag("--capability", "spec.security.capabilities", help="a Linux capability", many=True),
    Flag.refused(
        "--host-ipc",
        "SEC006",
        "sharing the node's IPC breaks the pod's isolation",
        "use --large-shm",
        help="the node's IPC; refused",
        kind="switch",
        read=if_true,
    ),
    Flag.refused(
        "--host-network",
        "SEC006",
        "sharing the node's network breaks the pod's isolation",
        "remove it",
        help="the node's network; refused",
        kind="switch",
        read=if_true,
    ),
    Flag.refused(
        "--privileged",
        "SEC006",
        "a privileged container is as good as root on the node",
        "remove it",
        help="full access to the node; refused",
        kind="switch",
        read=if_true,
    ),
    # Objects that only Run:ai's control plane has
    _asset("--template", "template", "give the template's flags yourself"),
    _asset("--compute", "compute asset", "give --gpu-devices-request, --cpu-core-request and so on yourself"),
    _asset(
        "--datasource", "data source asset", "give --existing-pvc, --secret-volume or --configmap-map-volume", many=True
    ),
    Flag.refused(
        "--env-my-credentials",
        "ENV003",
        "a Run:ai user's credential is known to Run:ai's control plane only",
        "put it into a Secret of the project and use --env-secret NAME=SECRET,key=KEY",
        help="a variable from a user's credential; refused",
        many=True,
    ),
    Flag.refused(
        "--image-pull-my-credentials",
        "ENV003",
        "a Run:ai user's credential is known to Run:ai's control plane only",
        "make a Secret of type kubernetes.io/dockerconfigjson and use --image-pull-secret",
        help="a user's credential for pulling; refused",
        many=True,
    ),
    Flag.refused(
        "--attach",
        "CRD002",
        "a server that answers requests has no terminal to attach to",
        "remove it",
        help="a terminal in the container; refused",
        kind="switch",
        read=if_true,
    ),
    # Run:ai's client
    _of_client("--pod-running-timeout", "how long to wait for the pod", "text"),
    _of_client("--wait-for-submit", "how long to wait for the workload", "text"),
    _of_client("--config-file", "the client's configuration file", "text"),
    _of_client("--config-path", "the client's configuration folder", "text"),
    _of_client("--debug", "more words", "switch", "-d"),
    _of_client("--quiet", "fewer words", "switch", "-q"),
    _of_client("--verbose", "more words", "switch"),
    Flag("--help", "", "switch", help="print this", take=leave, short="-h"),
)
BY_NAME: Final = {flag.name: flag for flag in FLAGS} | {flag.short: flag for flag in FLAGS if flag.short}
ORIGINS: Final[dict[Path, Path]] = {("metadata", "name"): ("NAME",), **origins_of(FLAGS)}


# From words to flags.


class GivenFlag(NamedTuple):
    """One flag as it was given: its text, or None for a switch without one."""

    flag: Flag
    text: str | None


def read_flags(argv: Sequence[str], profile: Profile) -> Draft:
    """Return a command line in native form, with every problem.

    ``argv`` is what follows ``runai inference submit``; those words may precede it.
    """
    draft = Draft(document(NAMELESS, {}), dict(ORIGINS), cluster=profile.spec)
    words, rest = _split(_without_command(list(argv)))
    names, given = _scan(draft, words)
    for item in given:
        _take(draft, item)
    _name(draft, names)
    _groups(draft, given)
    _command(draft, rest)
    return draft


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


def _scan(draft: Draft, words: list[str]) -> tuple[list[str], list[GivenFlag]]:
    """Return the names and the flags among the words."""
    names: list[str] = []
    given: list[GivenFlag] = []
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


def _long(draft: Draft, word: str, following: str | None, given: list[GivenFlag]) -> int:
    """Read ``--flag`` or ``--flag=value``; return how many words more it took."""
    name, equals, text = word.partition("=")
    flag = BY_NAME.get(name)
    if flag is None:
        _unknown(draft, name)
        # A value behind an unknown flag would be taken for a second name.
        return int(not equals and following is not None and not following.startswith("-"))
    if equals:
        given.append(GivenFlag(flag, text))
        return 0
    return _with_value(draft, flag, following, given)


def _short(draft: Draft, word: str, following: str | None, given: list[GivenFlag]) -> int:
    """Read ``-g 1``, ``-g1``, ``-g=1``, or switches in a row like ``-qd``."""
    for place in range(1, len(word)):
        flag = BY_NAME.get("-" + word[place])
        if flag is None:
            _unknown(draft, "-" + word[place])
            return 0
        rest = word[place + 1 :]
        if rest.startswith("=") or (rest and flag.kind != "switch"):
            given.append(GivenFlag(flag, rest.removeprefix("=")))
            return 0
        if flag.kind != "switch":
            return _with_value(draft, flag, following, given)
        given.append(GivenFlag(flag, None))
    return 0


def _with_value(draft: Draft, flag: Flag, following: str | None, given: list[GivenFlag]) -> int:
    if flag.kind == "switch":
        given.append(GivenFlag(flag, None))
        return 0
    if following is None or _is_flag(following):
        draft.refuse("FLAGS002", (flag.name,), f"{flag.name} has no value", f"write {_form(flag)}")
        return 0
    given.append(GivenFlag(flag, following))
    return 1


def _is_flag(word: str) -> bool:
    return word.partition("=")[0] in BY_NAME or (word.startswith("--") and len(word) > len("--"))


def _unknown(draft: Draft, name: str) -> None:
    from difflib import get_close_matches  # noqa: PLC0415 - only a slip of the pen needs it

    right = HABITS.get(name)
    if right is None and name.startswith("--"):
        right = next(iter(get_close_matches(name, BY_NAME, 1, 0.7)), None)
    hint = f"did you mean {right}?" if right else "see the list of flags with --help"
    draft.refuse("FLAGS001", (name,), f"there is no flag {cut(name)}", hint)


# From flags to the native document.


def _take(draft: Draft, item: GivenFlag) -> None:
    flag, where = item.flag, (item.flag.name,)
    if not flag.many and flag.name in draft.given:
        message = f"{flag.name} is given more than once; as in Run:ai the last one counts"
        draft.warn("FLAGS004", where, message, "keep one")
    draft.given[flag.name] = item.text or ""
    value = _value(draft, flag, item.text)
    if value is not None and flag.parts and flag.take is None:
        value = _entry(draft, flag, value)
    if value is not None:
        apply_row(draft, flag, value, where)


def _value(draft: Draft, flag: Flag, text: str | None) -> Any:
    """Return a value of the flag's form, or None with a problem."""
    form = FORMS[flag.kind]
    if flag.kind == "switch" and text is None:
        return True
    if not text and flag.kind != "switch":
        draft.refuse("FLAGS002", (flag.name,), f"{flag.name} has no value", f"write {_form(flag)}")
        return None
    value = form.read(text or "")
    if value is None:
        draft.refuse("SPEC002", (flag.name,), f"{cut(repr(text))} is {form.wrong}", f"write {_form(flag)}")
    return value


def _entry(draft: Draft, flag: Flag, text: str) -> dict[str, Any] | None:
    """Return the native entry of ``claimname=data,path=/data,readonly``, or None with problems."""
    entry: dict[str, Any] = {}
    seen: set[str] = set()
    before = len(draft.problems)
    where = (flag.name,)
    for piece in text.split(","):
        key, equals, given = piece.partition("=")
        key = key.strip()
        part = flag.parts.get(key)
        if part is None:
            draft.refuse("SPEC001", where, f"{flag.name} has no {cut(key)}", f"use {', '.join(flag.parts)}")
            continue
        seen.add(key)
        form = PART_FORMS[part.kind]
        if not equals and part.kind in {"true", "false"}:
            given = "true"
        value = form.read(given) if given else None
        if value is None:
            wrong = cut(repr(given)) if equals else "nothing"
            draft.refuse("SPEC002", where, f"{key} is {wrong}, but should be {form.wrong}", "correct it")
            continue
        set_at(entry, path_of(part.to), value)
    for key, part in flag.parts.items():
        if part.needed and key not in seen:
            draft.refuse("SPEC003", where, f"{flag.name} has no {key}", f"add {key}=…: {_form(flag)}")
    return entry if len(draft.problems) == before else None


def _name(draft: Draft, names: list[str]) -> None:
    where = ("NAME",)
    if not names and "--name-prefix" not in draft.given:
        draft.refuse("SPEC003", where, "the workload has no name", "write it first: chat --image …")
    for extra in names[1:]:
        hint = "put the program's own words behind --"
        if extra in TRUTHS:
            hint = f"a switch takes its value behind =: --large-shm={extra}"
        draft.refuse("FLAGS003", where, f"{cut(repr(extra))} is one word too many", hint)
    if names:
        draft.put(("metadata", "name"), names[0], where)


def _groups(draft: Draft, given: list[GivenFlag]) -> None:
    """Join the group ids of every ``--supplemental-groups`` into the one text that the spec has."""
    flag = BY_NAME["--supplemental-groups"]
    ids = [word for item in given if item.flag is flag for word in _words(item.text or "") or ()]
    if ids:
        draft.put(flag.native, ",".join(ids), (flag.name,))


def _command(draft: Draft, rest: list[str] | None) -> None:
    """Take the words behind ``--`` for the arguments, or with ``--command`` for the command."""
    is_command = "--command" in draft.given and TRUTHS.get(draft.given["--command"] or "true", False)
    if is_command and not rest:
        message = "--command needs the command behind --"
        draft.refuse("FLAGS002", ("--command",), message, "write --command -- python server.py")
    elif rest:
        draft.put(("spec", "command" if is_command else "args"), rest, ("--command" if is_command else "--",))


# For people.


def _form(flag: Flag) -> str:
    """Return how a flag is written: ``-g, --gpu-devices-request N``."""
    form = f"{{{'|'.join(flag.choices)}}}" if flag.choices else FORMS[flag.kind].placeholder
    if flag.parts:
        form = ",".join(f"{key}=…" for key in flag.parts)
    return f"{flag.name} {form}".strip()


def usage() -> str:
    """Return the help text: one line for each flag, in the table's order."""
    lines = ["NAME [flags] [-- words]", ""]
    forms = [
        f"{flag.short + ', ' if flag.short else '    '}{flag.name} {FORMS[flag.kind].placeholder}" for flag in FLAGS
    ]
    width = max(len(form.rstrip()) for form in forms)
    for flag, form in zip(FLAGS, forms, strict=True):
        more = f" ({', '.join(flag.choices)})" if flag.choices else ""
        more += "; may be repeated" if flag.many else ""
        lines.append(f"  {form.rstrip():<{width}}  {flag.help}{more}")
    return "\n".join(lines) + "\n"
