"""What a controller keeps for itself, by the kind of object that serves.

Upstream: knative.dev/serving pkg/apis/serving/k8s_validation.go (reservedEnvVars, reservedPorts), github.com/kserve/kserve
pkg/validation/env_policy.go (DefaultBlockedEnvVars, since 0.18), pkg/apis/serving/v1beta1/predictor_custom.go (GetStorageUri,
validateCustomProtocol), pkg/controller/v1beta1/inferenceservice/components/predictor.go (buildObjectMeta),
pkg/controller/v1beta1/inferenceservice/reconcilers/deployment (createRawDefaultDeployment).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ebbtide.base.problems import Problem
from ebbtide.base.versions import version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.spec.inference import InferenceSpec
    from ebbtide.translation.plan import Serving

#: Knative checks the revision that KServe makes in its Knative mode as it checks one of its own.
KNATIVE: Final = frozenset({"knative", "kserve"})
KSERVE: Final = frozenset({"kserve", "kserve-standard"})


@dataclass(frozen=True, slots=True)
class Reserved:
    """A name that a spec cannot set where it is served so, why, and what to do instead."""

    name: str
    by: frozenset[str]
    why: str
    way: str
    #: From this version of KServe on.
    since: tuple[int, ...] = (0,)


_SET: Final = "is set by Knative, whose webhook refuses it in a spec"
VARIABLES: Final = (
    Reserved("PORT", KNATIVE, _SET, "set servingPort.container"),
    Reserved("K_SERVICE", KNATIVE, _SET, "choose another name"),
    Reserved("K_CONFIGURATION", KNATIVE, _SET, "choose another name"),
    Reserved("K_REVISION", KNATIVE, _SET, "choose another name"),
    Reserved(
        "STORAGE_URI", KSERVE, "tells KServe to fetch a model into the pod", "use model.uri, or choose another name"
    ),
    Reserved(
        "PYTHONPATH",
        KSERVE,
        "changes which code is loaded, so KServe's webhook refuses it",
        "set it in the image, or use serving: knative",
        (0, 18),
    ),
)
LABELS: Final = (
    Reserved("component", KSERVE, "is KServe's own on every pod: predictor", "choose another key"),
    Reserved(
        "app",
        frozenset({"kserve-standard"}),
        "is what KServe Standard's deployment finds its pods by, and KServe sets it over any other",
        "choose another key, or use serving: kserve or knative",
    ),
)
#: Ports of queue-proxy and of Knative's profiling.
PORTS: Final = frozenset({8008, 8012, 8013, 8022, 9090, 9091})
PROTOCOL: Final = "PROTOCOL"
PROTOCOLS: Final = ("v1", "v2")
#: Every name that some kind of object keeps for itself.
NAMES: Final = frozenset({PROTOCOL, *(row.name for row in (*VARIABLES, *LABELS))})


def variables(spec: InferenceSpec, kserve_version: str, serving: Serving) -> Iterator[Problem]:
    """Yield a problem for each variable that this kind of object cannot have, by KServe's version."""
    taken = {row.name: row for row in VARIABLES if serving in row.by and version(kserve_version) >= row.since}
    custom = serving in KSERVE and spec.model is None
    for index, item in enumerate(spec.environment_variables):
        if item.exclude:
            continue
        row = taken.get(item.name)
        where = ("spec", "environmentVariables", index)
        if row is not None:
            yield Problem("ENV002", (*where, "name"), f"{row.name} {row.why}", row.way)
        elif item.name == PROTOCOL and custom and item.value not in PROTOCOLS:
            yield Problem(
                "ENV006",
                where,
                "KServe takes PROTOCOL for the inference protocol, and refuses all but a literal v1 or v2",
                "use v1 or v2, or choose another name; for gRPC set servingPort.protocol: grpc",
            )


def labels(spec: InferenceSpec, serving: Serving) -> Iterator[Problem]:
    """Yield a problem for each label of the pods that this kind of object would overwrite."""
    taken = {row.name: row for row in LABELS if serving in row.by}
    for index, item in enumerate(spec.labels):
        row = None if item.exclude else taken.get(item.name)
        if row is not None:
            yield Problem("LAB002", ("spec", "labels", index), f"{row.name} {row.why}", row.way)


def port(spec: InferenceSpec, serving: Serving) -> Iterator[Problem]:
    """Yield a problem if the container listens where queue-proxy does; Standard mode has no queue-proxy."""
    container = spec.serving_port.container
    if serving in KNATIVE and container in PORTS:
        yield Problem(
            "SRV004",
            ("spec", "servingPort", "container"),
            f"port {container} is queue-proxy's own",
            "let the server listen on another: 8080, 8000",
        )
