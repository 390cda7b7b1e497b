"""Reader of the flags of ``runai inference submit NAME …``, with their table; ``command_lines`` selects the reader of a line.

Upstream: run-ai/docs, runai_inference_submit.md (2.20), and NVIDIA's page of ``runai inference standard submit`` (2.24);
the flags of both are supported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base.problems import Path, make_warning, shorten_text
from ebbtide.core.readers import table
from ebbtide.core.readers.reading import make_document
from ebbtide.core.readers.table import Draft, Subfield
from ebbtide.core.translation.objects import to_camel
from ebbtide.runai.flag_parser import (
    FORMS,
    TRUTHS,
    Flag,
    GivenFlag,
    parse_list,
    parse_pair,
    parse_port,
    split_at_dashes,
    take_arguments,
)

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile


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


# Conversions of values.


def _secret_variable(pair: tuple[str, str]) -> dict[str, Any]:
    name, text = pair
    secret, _, rest = text.partition(",")
    key = rest.removeprefix("key=")
    if not secret or not key or key == rest:
        raise table.RefusedValueError(
            "SPEC002", f"{shorten_text(text)} must name a Secret and one of its keys", "write NAME=SECRET,key=KEY"
        )
    return {"name": name, "secret": {"name": secret, "key": key}}


def _read_environment(text: str) -> dict[str, Any]:
    """Read ``NAME=VALUE`` as in 2.20; in later versions the flag names an asset of the control plane."""
    pair = parse_pair(text)
    if pair is None:
        raise table.RefusedValueError(
            "RUN001", ASSET.format("an environment asset"), "set --image, --command and -e NAME=VALUE yourself"
        )
    return table.make_variable(pair)


def _check_request_type(text: str) -> str:
    """Return the type; Run:ai 2.20 has ``migProfile`` too, without a flag for the profile."""
    if text == "migProfile":
        message = "Run:ai's command line has no flag for a MIG profile"
        raise table.RefusedValueError(
            "GPU001", message, "use --gpu-memory-request, or set compute.migProfile in a spec"
        )
    return text


# Handlers of flags that do not correspond to exactly one native field.


def _take_serving_port(draft: Draft, flag: Flag, text: str, where: Path) -> None:
    for name, item in parse_port(draft, flag, text).items():
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


PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
VARIABLES: Final = "spec.environmentVariables"
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
PORT: Final = {
    "service-type": Subfield("serviceType"),
    "container": Subfield("container", "whole", needed=True),
    "external": Subfield("external", "whole"),
}
EXTERNAL_URL: Final = {
    "container": Subfield("container", "whole"),
    "url": Subfield("url"),
    "authusers": Subfield("authorizedUsers", "list"),
    "authgroups": Subfield("authorizedGroups", "list"),
}
LEVELS: Final = ("very-low", "low", "medium-low", "medium", "medium-high", "high", "very-high")
ASSET: Final = "{} is stored in Run:ai's control plane, which Ebbtide cannot read"
CREDENTIALS: Final = "Run:ai user credentials are stored in Run:ai's control plane, which Ebbtide cannot read"


def _flags_of(block: str, *rows: tuple[str, str, str]) -> Iterator[Flag]:
    """Yield the flags of native fields with the same name in camel case. A row has a flag's name, format and help."""
    for name, kind, text in rows:
        yield Flag(name, block + to_camel(name.strip("-").replace("-", "_")), kind, help=text)


def _item_flag(name: str, to: str, kind: str, text: str, read: Callable[[Any], Any] | None = None, **more: Any) -> Flag:
    """Return a flag of which each value is one item of a native list; ``text`` is its help."""
    return Flag(name, to, kind, many=True, read=read, help=text, **more)


def _refused_switch(name: str, code: str, message: str, fix: str, text: str) -> Flag:
    """Return an unsupported boolean flag; ``text`` is its help."""
    return Flag.refused(name, code, message, fix, help=f"{text}; not supported", kind="switch", read=table.true_or_none)


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
        table.NO_GENERATED_NAMES,
        "give the workload its own name",
        help="Prefix of a generated name; not supported",
    ),
    _item_flag("--label", "spec.labels", "pair", "Label on the pods", table.make_name_value),
    _item_flag("--annotation", "spec.annotations", "pair", "Annotation on the pods", table.make_name_value),
    # Container
    Flag("--image", "spec.image", help="Container image", short="-i"),
    Flag("--image-pull-policy", "spec.imagePullPolicy", help="Image pull policy", choices=PULL_POLICIES),
    _item_flag(
        "--image-pull-secret",
        "spec.imagePullSecrets",
        "text",
        "Secret with registry credentials",
        lambda name: {"name": name},
    ),
    Flag(
        "--command",
        "spec.command",
        "switch",
        help="Use the arguments after -- as the container's command",
        take=table.leave_to_rule,
        short="-c",
    ),
    _item_flag(
        "--environment-variable",
        VARIABLES,
        "pair",
        "Environment variable; NAME=SECRET:name,key reads it from a Secret",
        table.make_variable,
        short="-e",
    ),
    _item_flag(
        "--environment",
        VARIABLES,
        "text",
        "Environment variable, as in Run:ai 2.20; environment assets of later versions are not supported",
        _read_environment,
    ),
    _item_flag(
        "--env-secret",
        VARIABLES,
        "pair",
        "Environment variable from a Secret: NAME=SECRET,key=KEY",
        _secret_variable,
    ),
    _item_flag(
        "--env-pod-field-ref",
        VARIABLES,
        "pair",
        "Environment variable from a pod field: NAME=metadata.name",
        lambda pair: {"name": pair[0], "podFieldRef": {"path": pair[1]}},
    ),
    *_flags_of(
        "spec.",
        ("--working-dir", "text", "Working directory of the container"),
        ("--create-home-dir", "switch", "Create a home directory; not supported"),
    ),
    Flag("--large-shm", "spec.compute.largeShmRequest", "switch", help="Provide a larger /dev/shm"),
    # Compute
    *_flags_of(
        "spec.compute.",
        ("--cpu-core-request", "number", "CPU request in cores"),
        ("--cpu-core-limit", "number", "CPU limit in cores"),
        ("--cpu-memory-request", "text", "Memory request, as in 16Gi"),
        ("--cpu-memory-limit", "text", "Memory limit, as in 16Gi"),
    ),
    Flag("--gpu-devices-request", "spec.compute.gpuDevicesRequest", "whole", help="Number of GPU devices", short="-g"),
    Flag(
        "--gpu-request-type",
        "spec.compute.gpuRequestType",
        help="Type of the GPU request",
        read=_check_request_type,
        choices=("portion", "memory"),
    ),
    *_flags_of(
        "spec.compute.",
        ("--gpu-portion-request", "number", "GPU fraction of each device, as in 0.5"),
        ("--gpu-portion-limit", "number", "GPU fraction limit of each device"),
        ("--gpu-memory-request", "text", "GPU memory request per device, as in 20G"),
        ("--gpu-memory-limit", "text", "GPU memory limit per device"),
    ),
    _item_flag(
        "--extended-resource",
        "spec.compute.extendedResources",
        "pair",
        "Extended resource, as in rdma/hca=1",
        table.make_extended_resource,
    ),
    # Autoscaling
    *_flags_of(
        "spec.autoscaling.",
        ("--min-replicas", "whole", "Minimum number of replicas; 0 enables scale to zero"),
        ("--max-replicas", "whole", "Maximum number of replicas"),
        ("--initial-replicas", "whole", "Initial number of replicas of a new revision"),
        ("--activation-replicas", "whole", "Number of replicas when scaling from zero"),
        ("--metric", "text", "Scaling metric: concurrency, throughput, latency, gpu-utilization, or a custom metric"),
        ("--metric-threshold", "number", "Scaling threshold per replica"),
        ("--metric-threshold-percentage", "number", "Target utilization of the threshold in percent, 1 to 100"),
        ("--concurrency-hard-limit", "whole", "Maximum concurrent requests per replica; 0 for no limit"),
        (
            "--scale-down-delay-seconds",
            "whole",
            "Scale-down delay: seconds that the load must stay lower before replicas are removed",
        ),
        ("--scale-to-zero-retention-seconds", "whole", "Seconds to keep the last replica before scaling to zero"),
    ),
    *_flags_of(
        "spec.servingConfiguration.",
        ("--initialization-timeout-seconds", "whole", "Seconds until a revision must be ready"),
        ("--request-timeout-seconds", "whole", "Request timeout in seconds"),
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
    _item_flag(
        "--port", "spec.ports", "fields", "Additional port; not supported, only the serving port is", parts=PORT
    ),
    _item_flag(
        "--external-url", "spec.exposedUrls", "fields", "Custom host name", table.make_exposed_url, parts=EXTERNAL_URL
    ),
    # Scheduling
    _item_flag("--node-pools", "spec.nodePools", "list", "Node pools, in order of preference"),
    Flag("--node-type", "spec.nodeType", help="Node type"),
    Flag(
        "--exclude-node",
        "spec.nodeAffinityRequired",
        "list",
        many=True,
        help="Nodes to avoid",
        take=_take_excluded_nodes,
    ),
    _item_flag("--toleration", "spec.tolerations", "fields", "Toleration for a node taint", parts=TOLERATION),
    *(
        Flag(
            f"--{kind.lower()}-pod-topology-key",
            "spec.podAffinity",
            help=f"Node label whose value {verb} be the same for all replicas (pod affinity)",
            # Run:ai 2.24 documents it as key=LABEL.
            read=lambda text: text.removeprefix("key="),
            take=partial(_take_topology_key, kind=kind),
        )
        for kind, verb in (("Required", "must"), ("Preferred", "should"))
    ),
    Flag("--priority", "spec.priorityClass", help="Priority of the workload", choices=LEVELS),
    Flag(
        "--preemptibility",
        "spec.preemptibility",
        help="Preemptibility of the workload",
        choices=("preemptible", "non-preemptible"),
    ),
    # Storage
    _item_flag(
        "--existing-pvc",
        "spec.storage.pvc",
        "fields",
        "Mount an existing PersistentVolumeClaim",
        lambda entry: {"existingPvc": True, **entry},
        parts=EXISTING_PVC,
    ),
    _item_flag(
        "--new-pvc",
        "spec.storage.pvc",
        "fields",
        "Create and mount a PersistentVolumeClaim",
        table.make_new_claim,
        parts=NEW_PVC,
    ),
    *(
        _item_flag(name, f"spec.storage.{to}", "fields", text, parts=parts)
        for name, to, text, parts in (
            ("--secret-volume", "secretVolume", "Mount files from a Secret", SECRET_VOLUME),
            ("--configmap-map-volume", "configMapVolume", "Mount files from a ConfigMap", CONFIG_MAP_VOLUME),
            ("--empty-dir-volume", "emptyDirVolume", "Mount an empty scratch directory", EMPTY_DIR_VOLUME),
        )
    ),
    *(
        _item_flag(name, f"spec.storage.{to}", "text", f"{text}; not supported", lambda text: {"text": text})
        for name, to, text in (
            ("--nfs", "nfs", "NFS share"),
            ("--host-path", "hostPath", "Directory on the node"),
            ("--git-sync", "git", "Git repository"),
        )
    ),
    Flag.refused(
        "--datavolume",
        "STO004",
        "--datavolume references a data volume of Run:ai's control plane, which Ebbtide cannot read",
        "use the PersistentVolumeClaim behind it: --existing-pvc claimname=…,path=…",
        help="Run:ai data volume; not supported",
        many=True,
    ),
    # Security
    *_flags_of(
        "spec.security.",
        ("--run-as-uid", "whole", "User ID of the container"),
        ("--run-as-gid", "whole", "Group ID of the container"),
        ("--run-as-non-root", "switch", "Forbid running as root"),
    ),
    _refused_switch(
        "--run-as-user",
        "SEC004",
        "--run-as-user means the submitting user, whose ID Ebbtide cannot look up",
        "set --run-as-uid and --run-as-gid",
        "Run as the submitting user",
    ),
    _item_flag(
        "--supplemental-groups",
        "spec.security.supplementalGroups",
        "list",
        "Additional group IDs",
        take=table.leave_to_rule,
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
    _item_flag("--capability", "spec.security.capabilities", "text", "Linux capability to add"),
    _refused_switch(
        "--host-ipc",
        "SEC006",
        "sharing the node's IPC namespace breaks the pod's isolation",
        "use --large-shm",
        "Use the node's IPC namespace",
    ),
    _refused_switch(
        "--host-network",
        "SEC006",
        "sharing the node's network breaks the pod's isolation",
        "remove it",
        "Use the node's network",
    ),
    _refused_switch(
        "--privileged",
        "SEC006",
        "a privileged container has root access to the node",
        "remove it",
        "Run a privileged container",
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
        CREDENTIALS,
        "store the credential in a Secret of the project and use --env-secret NAME=SECRET,key=KEY",
        help="Environment variable from a user's credential; not supported",
        many=True,
    ),
    Flag.refused(
        "--image-pull-my-credentials",
        "ENV003",
        CREDENTIALS,
        "create a Secret of type kubernetes.io/dockerconfigjson and use --image-pull-secret",
        help="Registry credential of a user; not supported",
        many=True,
    ),
    _refused_switch(
        "--attach",
        "FLAGS006",
        "an inference server has no terminal to attach to",
        "remove it",
        "Attach a terminal to the container",
    ),
    # Run:ai's client
    _client_flag("--pod-running-timeout", "Time to wait for the pod", "text"),
    _client_flag("--wait-for-submit", "Time to wait for the workload", "text"),
    _client_flag("--config-file", "Configuration file of the client", "text"),
    _client_flag("--config-path", "Configuration directory of the client", "text"),
    _client_flag("--debug", "Debug output", "switch", "-d"),
    _client_flag("--quiet", "Less output", "switch", "-q"),
    _client_flag("--verbose", "More output", "switch"),
    Flag("--help", "", "switch", help="Show this help message and exit", take=table.leave_to_rule, short="-h"),
)
BY_NAME: Final = {flag.name: flag for flag in FLAGS} | {flag.short: flag for flag in FLAGS if flag.short}
#: The names in the examples of Run:ai's own pages of 2.18 to 2.20.
OLD_NAMES: Final = {"--min-scale": "--min-replicas", "--max-scale": "--max-replicas"}
BY_NAME.update({old: BY_NAME[name] for old, name in OLD_NAMES.items()})
ORIGINS: Final[dict[Path, Path]] = {("metadata", "name"): ("NAME",), **table.source_paths(FLAGS)}


def read_flags(argv: Sequence[str], profile: Profile) -> Draft:
    """Return a command line in native form, with all its problems. ``argv`` are the arguments after the command."""
    draft = Draft(make_document(table.NAMELESS, {}), dict(ORIGINS), cluster=profile.spec)
    words, rest = split_at_dashes(list(argv))
    flags = take_arguments(draft, words, BY_NAME)
    _set_supplemental_groups(draft, flags)
    _set_command(draft, rest)
    return draft


def _set_supplemental_groups(draft: Draft, flags: list[GivenFlag]) -> None:
    """Join the group IDs of every ``--supplemental-groups`` into the spec's string."""
    flag = BY_NAME["--supplemental-groups"]
    ids = [
        group for given_flag in flags if given_flag.flag is flag for group in parse_list(given_flag.text or "") or ()
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
)
#: Flags that the help only names: the title, and the text in the flag's help that selects them.
FOLDED: Final = (
    ("Rejected, each with the reason", "; not supported"),
    ("Accepted without effect", "; no effect in Ebbtide"),
)


def format_flags() -> str:
    """Return the help text of the flags: a line for each, in groups, and only the names of those without effect."""
    forms = {
        flag.name: f"{flag.short + ', ' if flag.short else '    '}{flag.name} {FORMS[flag.kind].placeholder}".rstrip()
        for flag in FLAGS
    }
    folded: dict[str, list[str]] = {title: [] for title, _ in FOLDED}
    shown: list[Flag] = []
    for flag in FLAGS:
        title = next((title for title, text in FOLDED if text in flag.help), "")
        if title:
            folded[title].append(flag.name)
        elif flag.name != "--help":
            shown.append(flag)
    width = max(len(forms[flag.name]) for flag in shown)
    titles = {name: title for title, name in GROUPS}
    lines = []
    for flag in shown:
        if flag.name in titles:
            lines += ["", f"{titles[flag.name]}:"]
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
