"""Reader of the flags of ``runai inference nim submit NAME …``, as the NIM service that ``nim`` reads from a REST body.

Upstream: NVIDIA's page of ``runai inference nim submit`` (2.24 to 3.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebbtide.core.readers.reading import make_document
from ebbtide.core.readers.rest import take_prefix
from ebbtide.core.readers.table import NAMELESS, Draft, Subfield, leave_to_rule, make_new_claim, source_paths
from ebbtide.runai import nim
from ebbtide.runai.flag_parser import TRUTHS, Flag, parse_port, split_at_dashes, take_arguments
from ebbtide.runai.flags import BY_NAME as STANDARD
from ebbtide.runai.flags import NEW_PVC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.core.base.problems import Path
    from ebbtide.core.profile.models import Profile

# fmt: off
#: The flags that mean the same as in ``runai inference submit``.
SHARED: Final = (
    "--project", "--label", "--annotation", "--image", "--image-pull-policy", "--image-pull-secret",
    "--environment-variable", "--cpu-core-request", "--cpu-core-limit", "--cpu-memory-request",
    "--cpu-memory-limit", "--gpu-devices-request", "--gpu-request-type", "--gpu-portion-request",
    "--gpu-portion-limit", "--gpu-memory-request", "--gpu-memory-limit", "--min-replicas", "--max-replicas",
    "--metric", "--metric-threshold", "--toleration", "--priority", "--preemptibility", "--run-as-uid",
    "--run-as-gid", "--config-file", "--config-path", "--debug", "--quiet", "--verbose", "--help",
)
# fmt: on
#: The keys of a port, with the names of the REST body.
SERVING_PORT: Final = {
    "port": Subfield("port", "whole", needed=True),
    "grpc-port": Subfield("grpcPort", "whole"),
    "metrics-port": Subfield("metricsPort", "whole"),
    "expose-externally": Subfield("exposeExternally", "true"),
    "exposed-url": Subfield("exposedUrl"),
    "exposed-protocol": Subfield("exposedProtocol"),
    "service-type": Subfield("serviceType"),
}
READINESS: Final = {
    "port": Subfield("handler.httpGet.port", "whole", needed=True),
    "path": Subfield("handler.httpGet.path"),
    "host": Subfield("handler.httpGet.host"),
    "scheme": Subfield("handler.httpGet.scheme"),
    "initial-delay": Subfield("initialDelaySeconds", "whole"),
    "period": Subfield("periodSeconds", "whole"),
    "timeout": Subfield("timeoutSeconds", "whole"),
    "success": Subfield("successThreshold", "whole"),
    "failure": Subfield("failureThreshold", "whole"),
}
EXISTING_PVC: Final = {"claimname": Subfield("claimName", needed=True)}
NEW_CLAIM: Final = {name: part for name, part in NEW_PVC.items() if name not in {"path", "ephemeral"}}
#: Flags of the model store, of which one is allowed.
STORES: Final = ("--model-existing-pvc", "--model-new-pvc", "--model-nim-cache")
PREFIX: Final = "--use-name-as-prefix"
BOUNDS: Final = ("--min-replicas", "--max-replicas", "--metric")


def _take_serving_port(draft: Draft, flag: Flag, text: str, where: Path) -> None:
    nim.take_port(draft, flag, parse_port(draft, flag, text, "port"), where)


OWN: Final[tuple[Flag, ...]] = (
    Flag("--category", "spec.category", help="Category of the workload"),
    Flag(
        "--ngc-auth-secret", "spec.environmentVariables", help="Secret with the key NGC_API_KEY", take=nim.take_secret
    ),
    Flag(
        "--model-existing-pvc",
        "spec.storage.pvc",
        "fields",
        help="Existing PersistentVolumeClaim with the model: claimname=CLAIM",
        read=lambda entry: [{"existingPvc": True, **entry, "path": nim.CACHE}],
        parts=EXISTING_PVC,
    ),
    Flag(
        "--model-new-pvc",
        "spec.storage.pvc",
        "fields",
        help="New PersistentVolumeClaim for the model: size=SIZE,…",
        read=lambda entry: [{**make_new_claim(entry), "path": nim.CACHE}],
        parts=NEW_CLAIM,
    ),
    Flag.refused("--model-nim-cache", *nim.NIM_CACHE, help="NIMCache of NVIDIA's NIM operator; not supported"),
    Flag("--replicas", "spec.autoscaling", "whole", help="Fixed number of replicas", take=leave_to_rule),
    Flag(
        "--scale-window-seconds",
        "spec.autoscaling.stableWindowSeconds",
        "whole",
        help="Seconds over which the autoscaler averages the metric",
    ),
    Flag(
        "--serving-port",
        "spec.servingPort",
        "fields",
        help="Serving port: 8000, or port=8000,exposed-url=https://…",
        take=_take_serving_port,
        parts=SERVING_PORT,
        also=("spec.exposedUrls",),
    ),
    Flag(
        "--readiness-probe",
        "spec.probes.readiness",
        "fields",
        help="Readiness probe: port=8000,path=/v1/health/ready",
        parts=READINESS,
    ),
    Flag(PREFIX, "metadata.name", "switch", help="Add a hash of the spec to the name", take=leave_to_rule),
    Flag("--workers", kind="whole", help="Workers on other nodes; not supported", take=nim.take_workers),
)
FLAGS: Final = (*(STANDARD[name] for name in SHARED), *OWN)
BY_NAME: Final = {flag.name: flag for flag in FLAGS} | {flag.short: flag for flag in FLAGS if flag.short}
ORIGINS: Final[dict[Path, Path]] = {("metadata", "name"): ("NAME",), **source_paths(FLAGS)}


def read_flags(argv: Sequence[str], profile: Profile) -> Draft:
    """Return a command line in native form, with all its problems. ``argv`` are the arguments after the command."""
    draft = Draft(make_document(NAMELESS, {}), dict(ORIGINS), cluster=profile.spec)
    words, rest = split_at_dashes([*argv])
    given = {row.flag.name: row.text or "" for row in take_arguments(draft, words, BY_NAME)}
    if rest:
        message = "a NIM service has no command: its image starts the server"
        draft.add_error("FLAGS003", ("--",), message, "remove the arguments after --, and set variables with -e")
    _refuse_both(draft, [name for name in STORES if name in given])
    _refuse_both(
        draft, [name for name in ("--replicas", *BOUNDS) if name in given][:2] if "--replicas" in given else []
    )
    if given.get("--replicas", "").isdecimal():
        nim.take_replicas(draft, BY_NAME["--replicas"], int(given["--replicas"]), ("--replicas",))
    nim.set_defaults(draft)
    if TRUTHS.get(given.get(PREFIX, "false") or "true"):
        take_prefix(draft, BY_NAME[PREFIX], "", (PREFIX,))
    return draft


def _refuse_both(draft: Draft, names: Sequence[str]) -> None:
    if len(names) > 1:
        message = f"{names[0]} and {names[1]} are mutually exclusive"
        draft.add_error("FLAGS004", (names[1],), message, "keep one of them")
