"""Rules for volumes and mount paths."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Final

from ebbtide.base import quantities
from ebbtide.base.problems import Problem, remove_field
from ebbtide.spec.rules.compute import COMPUTE
from ebbtide.spec.rules.serving import is_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.base.problems import Path
    from ebbtide.spec.inference import Inference, InferenceSpec

#: The fields that mount /dev/shm.
SHM_FIELDS: Final = ("largeShmRequest", "shmSize")
#: Paths that cannot be mount paths: Knative rejects them (pkg/apis/serving/k8s_validation.go), and no container could run.
RESERVED_PATHS: Final = {"/", "/dev", "/dev/log"}


def check_storage(inference: Inference) -> Iterator[Problem]:
    """Check that a restricted pod may have each type of volume, and that all mount paths differ."""
    volumes = inference.spec.storage
    base = ("spec", "storage")
    for field, items, code, reason, fix in (
        ("hostPath", volumes.host_path, "STO001", "a directory of the node breaks the pod's isolation, and the restricted Pod Security Standard forbids it", "use a persistent volume claim"),
        ("nfs", volumes.nfs, "STO002", "Knative and the restricted Pod Security Standard accept an NFS share only through a claim", "create a PersistentVolume for the share and use pvc with existingPvc: true"),
        ("git", volumes.git, "STO003", "they require a git container, which Ebbtide does not provide", "add the files to the image, or use model.uri"),
        ("dataVolume", volumes.data_volume, "STO004", "Run:ai's control plane stores the definition of a Run:ai data volume", "use the claim of the data volume: pvc with existingPvc: true"),
    ):  # fmt: skip
        for index, volume in enumerate(items):
            if not volume.exclude:
                yield Problem(code, (*base, field, index), f"{field} volumes are not supported: {reason}", fix)
    paths: dict[str, str] = {}
    for field, index, path in _mount_paths(inference.spec):
        place = f"storage.{field}[{index}]" if field not in SHM_FIELDS else f"compute.{field}"
        if path in paths:
            yield Problem(
                "STO006",
                (*base, field, index) if field not in SHM_FIELDS else (*COMPUTE, field),
                f"mount path {path} is already used by {paths[path]}",
                "use another path",
            )
        elif ":" in path:
            yield Problem(
                "STO006",
                (*base, field, index),
                f"invalid mount path {path!r}: must not contain a colon",
                "use another path",
            )
        elif path in RESERVED_PATHS:
            yield Problem(
                "STO006",
                (*base, field, index),
                f"mount path {path} is reserved for the container",
                "use a separate directory, such as /data",
            )
        paths.setdefault(path, place)
    for index, files in enumerate(volumes.config_map_volume):
        sub_path = files.sub_path
        if not files.exclude and sub_path is not None and (sub_path.startswith("/") or ".." in sub_path.split("/")):
            yield Problem(
                "STO009",
                (*base, "configMapVolume", index, "subPath"),
                f"invalid subPath {sub_path!r}: must be a path inside the volume",
                "use a key of the ConfigMap, without a leading / and without ..",
            )
    size = inference.spec.compute.shm_size
    if size is not None and not quantities.parse_nano(size):
        yield Problem(
            "CPU002", (*COMPUTE, "shmSize"), f"invalid amount of memory {size!r}", "use a quantity such as 8Gi"
        )
    for index, image in enumerate(volumes.image_volume):
        if not is_image(image.image):
            yield Problem(
                "SRV021",
                (*base, "imageVolume", index, "image"),
                f"invalid image reference {image.image!r}",
                "use a lowercase reference such as registry.example.com/team/name:tag, or a digest (@sha256:…)",
            )
    for index, scratch in enumerate(volumes.empty_dir_volume):
        if scratch.size_limit is not None and not quantities.parse_nano(scratch.size_limit):
            yield Problem(
                "CPU002",
                (*base, "emptyDirVolume", index, "sizeLimit"),
                f"invalid amount of storage {scratch.size_limit!r}",
                "use a quantity such as 10Gi",
            )
    for index, claim in enumerate(volumes.pvc):
        if not claim.exclude:
            yield from _check_claim((*base, "pvc", index), claim)


def _mount_paths(spec: InferenceSpec) -> Iterator[tuple[str, int, str]]:
    if spec.compute.large_shm_request or spec.compute.shm_size is not None:
        yield SHM_FIELDS[spec.compute.shm_size is not None], 0, "/dev/shm"  # noqa: S108 - a path in the pod
    volumes = spec.storage
    for index, files in enumerate(volumes.config_map_volume):
        if not files.exclude:
            yield "configMapVolume", index, _normalize_path(files.mount_path)
    for index, secret in enumerate(volumes.secret_volume):
        if not secret.exclude:
            yield "secretVolume", index, _normalize_path(secret.mount_path)
    for index, scratch in enumerate(volumes.empty_dir_volume):
        if not scratch.exclude:
            yield "emptyDirVolume", index, _normalize_path(scratch.path)
    for index, claim in enumerate(volumes.pvc):
        if not claim.exclude:
            yield "pvc", index, _normalize_path(claim.path)
    for index, image in enumerate(volumes.image_volume):
        if not image.exclude:
            yield "imageVolume", index, _normalize_path(image.mount_path)
    for index, csi in enumerate(volumes.csi_volume):
        if not csi.exclude:
            yield "csiVolume", index, _normalize_path(csi.mount_path)


def _normalize_path(path: str) -> str:
    """Return an absolute path in the form that Knative compares: ``/a//b/`` and ``/a/./b`` become ``/a/b``."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _check_claim(where: Path, claim: object) -> Iterator[Problem]:
    # The parameter is typed as object because the compiled models are not pydantic classes.
    existing: bool = claim.existing_pvc  # type: ignore[attr-defined]
    info = claim.claim_info  # type: ignore[attr-defined]
    if claim.ephemeral:  # type: ignore[attr-defined]
        yield Problem(
            "STO005",
            (*where, "ephemeral"),
            "ephemeral claims are not supported, neither by Run:ai for inference nor by Knative",
            "use emptyDirVolume for scratch space",
        )
    if claim.data_sharing:  # type: ignore[attr-defined]
        yield Problem(
            "STO005",
            (*where, "dataSharing"),
            "dataSharing is not supported: Run:ai's control plane shares claims across a project",
            "create the claim with access mode ReadWriteMany and use existingPvc: true",
        )
    if existing and claim.claim_name is None:  # type: ignore[attr-defined]
        yield Problem("STO005", where, "existingPvc requires claimName", "set claimName")
    if existing and info is not None:
        yield Problem(
            "STO005",
            (*where, "claimInfo"),
            "claimInfo is not valid for an existing claim",
            "remove claimInfo or existingPvc",
            fixes=remove_field(),
        )
    if not existing and (info is None or info.size is None):
        yield Problem("STO005", where, "a new claim requires a size", "set claimInfo.size, or existingPvc: true")
    if info is None:
        return
    if info.size is not None and not quantities.parse_nano(info.size):
        yield Problem(
            "CPU002",
            (*where, "claimInfo", "size"),
            f"invalid amount of storage {info.size!r}",
            "use a quantity such as 100Gi",
        )
    if info.volume_mode == "Block":
        yield Problem(
            "STO005",
            (*where, "claimInfo", "volumeMode"),
            "a block volume cannot be mounted at a path, and Knative does not support volumeDevices",
            "use volumeMode: Filesystem",
        )
    if info.added_attr_values:
        yield Problem(
            "STO005",
            (*where, "claimInfo", "addedAttrValues"),
            "addedAttrValues is not supported: attributes of a storage asset are available only in Run:ai's control plane",
            "set storageClass instead",
        )
    modes = info.access_modes
    if modes is not None and not (modes.read_write_once or modes.read_only_many or modes.read_write_many):
        yield Problem(
            "STO005",
            (*where, "claimInfo", "accessModes"),
            "the claim has no access mode",
            "set at least one access mode to true",
        )
