"""Volumes and where they are mounted."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from ebbtide.base import quantities
from ebbtide.base.problems import Problem
from ebbtide.spec.rules.compute import COMPUTE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference, InferenceSpec

#: Where nothing can be mounted: Knative refuses it (pkg/apis/serving/k8s_validation.go), and no container could run.
RESERVED_PATHS: Final = {"/", "/dev", "/dev/log"}


def storage(inference: Inference) -> Iterator[Problem]:
    """Volumes are of kinds that a restricted pod may have, and mount at different places."""
    volumes = inference.spec.storage
    base = ("spec", "storage")
    for field, items, code, why, way in (
        ("hostPath", volumes.host_path, "STO001", "a folder of the node breaks the pod's isolation, and the restricted rule refuses it", "use a persistent volume claim"),
        ("nfs", volumes.nfs, "STO002", "Knative and the restricted rule take an NFS share only through a claim", "make a PersistentVolume for the share and use pvc with existingPvc: true"),
        ("git", volumes.git, "STO003", "it needs a git container, which Ebbtide does not ship", "put the files into the image, or use model.uri"),
        ("dataVolume", volumes.data_volume, "STO004", "a Run:ai data volume lives in Run:ai's control plane", "use the claim behind it: pvc with existingPvc: true"),
    ):  # fmt: skip
        for index, item in enumerate(items):
            if not item.exclude:
                yield Problem(code, (*base, field, index), f"{field} cannot be mounted here: {why}", way)
    paths: dict[str, str] = {}
    for field, index, path in _mount_paths(inference.spec):
        place = f"storage.{field}[{index}]" if field != "largeShm" else "compute.largeShmRequest"
        if path in paths:
            yield Problem(
                "STO006",
                (*base, field, index) if field != "largeShm" else (*COMPUTE, "largeShmRequest"),
                f"{path} is taken by {paths[path]} already",
                "choose another path",
            )
        elif ":" in path:
            yield Problem(
                "STO006", (*base, field, index), f"{path!r}: a mount path has no colon", "choose another path"
            )
        elif path in RESERVED_PATHS:
            yield Problem(
                "STO006",
                (*base, field, index),
                f"{path} is the container's own, and nothing is mounted there",
                "mount it at a folder of its own: /data, say",
            )
        paths.setdefault(path, place)
    for index, files in enumerate(volumes.config_map_volume):
        inside = files.sub_path
        if not files.exclude and inside is not None and (inside.startswith("/") or ".." in inside.split("/")):
            yield Problem(
                "STO009",
                (*base, "configMapVolume", index, "subPath"),
                f"{inside!r} leads out of the volume",
                "name one of its keys, without a / in front and without ..",
            )
    for index, scratch in enumerate(volumes.empty_dir_volume):
        if scratch.size_limit is not None and not quantities.nano(scratch.size_limit):
            yield Problem(
                "CPU002",
                (*base, "emptyDirVolume", index, "sizeLimit"),
                f"{scratch.size_limit!r} is no amount of storage",
                "write it as 10Gi",
            )
    for index, claim in enumerate(volumes.pvc):
        if not claim.exclude:
            yield from _claim((*base, "pvc", index), claim)


def _mount_paths(spec: InferenceSpec) -> Iterator[tuple[str, int, str]]:
    if spec.compute.large_shm_request:
        yield "largeShm", 0, "/dev/shm"  # noqa: S108 - the pod's, not ours
    volumes = spec.storage
    for index, files in enumerate(volumes.config_map_volume):
        if not files.exclude:
            yield "configMapVolume", index, _clean(files.mount_path)
    for index, secret in enumerate(volumes.secret_volume):
        if not secret.exclude:
            yield "secretVolume", index, _clean(secret.mount_path)
    for index, scratch in enumerate(volumes.empty_dir_volume):
        if not scratch.exclude:
            yield "emptyDirVolume", index, _clean(scratch.path)
    for index, claim in enumerate(volumes.pvc):
        if not claim.exclude:
            yield "pvc", index, _clean(claim.path)


def _clean(path: str) -> str:
    """Return an absolute path as Knative compares it: ``/a//b/`` and ``/a/./b`` are ``/a/b``."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _claim(where: Path, claim: object) -> Iterator[Problem]:
    # Typed loosely: the compiled models are not pydantic's classes.
    existing: bool = claim.existing_pvc  # type: ignore[attr-defined]
    info = claim.claim_info  # type: ignore[attr-defined]
    if claim.ephemeral:  # type: ignore[attr-defined]
        yield Problem(
            "STO005",
            (*where, "ephemeral"),
            "Run:ai offers no ephemeral claims for inference, and Knative none at all",
            "use emptyDirVolume for scratch space",
        )
    if claim.data_sharing:  # type: ignore[attr-defined]
        yield Problem(
            "STO005",
            (*where, "dataSharing"),
            "sharing a claim over a project is done by Run:ai's control plane",
            "make the claim with access mode ReadWriteMany and use existingPvc: true",
        )
    if existing and claim.claim_name is None:  # type: ignore[attr-defined]
        yield Problem("STO005", where, "existingPvc without claimName names no claim", "set claimName")
    if existing and info is not None:
        yield Problem(
            "STO005",
            (*where, "claimInfo"),
            "an existing claim is not made again",
            "remove claimInfo or existingPvc",
        )
    if not existing and (info is None or info.size is None):
        yield Problem("STO005", where, "a new claim needs a size", "set claimInfo.size, or existingPvc: true")
    if info is None:
        return
    if info.size is not None and not quantities.nano(info.size):
        yield Problem(
            "CPU002",
            (*where, "claimInfo", "size"),
            f"{info.size!r} is no amount of storage",
            "write it as 100Gi",
        )
    if info.volume_mode == "Block":
        yield Problem(
            "STO005",
            (*where, "claimInfo", "volumeMode"),
            "a raw device cannot be mounted at a path, and Knative has no volumeDevices",
            "use Filesystem",
        )
    if info.added_attr_values:
        yield Problem(
            "STO005",
            (*where, "claimInfo", "addedAttrValues"),
            "attributes of a storage asset are known to Run:ai's control plane only",
            "choose the storageClass instead",
        )
    modes = info.access_modes
    if modes is not None and not (modes.read_write_once or modes.read_only_many or modes.read_write_many):
        yield Problem("STO005", (*where, "claimInfo", "accessModes"), "the claim has no access mode", "set one to true")
