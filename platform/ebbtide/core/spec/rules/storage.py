"""Rules for volumes and mount paths."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from ebbtide.core.base import quantities
from ebbtide.core.base.names import COMPILED_PATH, WEIGHTS_PATH
from ebbtide.core.base.problems import Path, Problem, remove_field
from ebbtide.core.spec.rules.compute import COMPUTE, check_memory, invalid_amount
from ebbtide.core.spec.rules.serving import IMAGE_FIX, is_image, warn_of_excluded

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import Inference, InferenceSpec
    from ebbtide.core.spec.storage import ClaimVolume

#: Paths that cannot be mount paths: Knative rejects them (pkg/apis/serving/k8s_validation.go), and no container could run.
RESERVED_PATHS: Final = {"/", "/dev", "/dev/log"}


#: The lists of volumes with a mount path: the name of each, and the functions that return the list and a volume's path.
MOUNTED: Final[tuple[tuple[str, Callable[[Any], Any], Callable[[Any], str]], ...]] = (
    ("configMapVolume", attrgetter("config_map_volume"), attrgetter("mount_path")),
    ("secretVolume", attrgetter("secret_volume"), attrgetter("mount_path")),
    ("emptyDirVolume", attrgetter("empty_dir_volume"), attrgetter("path")),
    ("pvc", attrgetter("pvc"), attrgetter("path")),
    ("imageVolume", attrgetter("image_volume"), attrgetter("mount_path")),
    ("csiVolume", attrgetter("csi_volume"), attrgetter("mount_path")),
)
HOST_PATH: Final = (
    "a directory of the node breaks the pod's isolation, and the restricted Pod Security Standard forbids it"
)


def check_storage(inference: Inference) -> Iterator[Problem]:
    """Check that a restricted pod may have each type of volume, and that all mount paths differ."""
    volumes = inference.spec.storage
    base = ("spec", "storage")
    for field, items, code, reason, fix in (
        ("hostPath", volumes.host_path, "STO001", HOST_PATH, "use a persistent volume claim"),
        ("nfs", volumes.nfs, "STO002", "Knative and the restricted Pod Security Standard accept an NFS share only through a claim", "create a PersistentVolume for the share and use pvc with existingPvc: true"),
        ("git", volumes.git, "STO003", "they require a git container, which Ebbtide does not provide", "add the files to the image, or use model.uri"),
        ("dataVolume", volumes.data_volume, "STO004", "Run:ai's control plane stores the definition of a Run:ai data volume", "use the claim of the data volume: pvc with existingPvc: true"),
    ):  # fmt: skip
        for index, volume in enumerate(items):
            place = (*base, field, index)
            if volume.get("exclude") is True:
                yield warn_of_excluded(place)
            else:
                yield Problem(code, place, f"{field} volumes are not supported: {reason}", fix)
    yield from _check_mount_paths(inference.spec)
    for index, files in enumerate(volumes.config_map_volume):
        sub_path = files.sub_path
        if not files.exclude and sub_path is not None and (sub_path.startswith("/") or ".." in sub_path.split("/")):
            message = f"invalid subPath {sub_path!r}: must be a path inside the volume"
            fix = "use a key of the ConfigMap, without a leading / and without .."
            yield Problem("STO009", (*base, "configMapVolume", index, "subPath"), message, fix)
    size = inference.spec.compute.shm_size
    if size is not None:
        yield from check_memory((*COMPUTE, "shmSize"), size, "8Gi")
    for index, image in enumerate(volumes.image_volume):
        if not is_image(image.image):
            message = f"invalid image reference {image.image!r}"
            yield Problem("SRV021", (*base, "imageVolume", index, "image"), message, IMAGE_FIX)
    for index, scratch in enumerate(volumes.empty_dir_volume):
        if scratch.size_limit is not None and not quantities.parse_nano(scratch.size_limit):
            yield invalid_amount((*base, "emptyDirVolume", index, "sizeLimit"), scratch.size_limit, "storage", "10Gi")
    for index, claim in enumerate(volumes.pvc):
        if not claim.exclude:
            yield from _check_claim((*base, "pvc", index), claim)


def _check_mount_paths(spec: InferenceSpec) -> Iterator[Problem]:
    paths: dict[str, str] = {}
    if spec.compute.large_shm_request or spec.compute.shm_size is not None:
        # It is the first volume, so no other can have its path already.
        paths["/dev/shm"] = f"compute.{'largeShmRequest' if spec.compute.shm_size is None else 'shmSize'}"  # noqa: S108 - a path in the pod
    if spec.start is not None and spec.start.weights is not None and spec.model is None:
        paths[_normalize_path(spec.start.weights.mount_path or WEIGHTS_PATH)] = "start.weights"
    if spec.start is not None and spec.start.compilation_cache is not None:
        paths[COMPILED_PATH] = "start.compilationCache"
    for field, get_volumes, get_path in MOUNTED:
        for index, volume in enumerate(get_volumes(spec.storage)):
            if volume.exclude:
                continue
            where, path = ("spec", "storage", field, index), _normalize_path(get_path(volume))
            if path in paths:
                message = f"mount path {path} is already used by {paths[path]}"
                yield Problem("STO006", where, message, "use another path")
            elif ":" in path:
                message = f"invalid mount path {path!r}: must not contain a colon"
                yield Problem("STO006", where, message, "use another path")
            elif path in RESERVED_PATHS:
                message = f"mount path {path} is reserved for the container"
                yield Problem("STO006", where, message, "use a separate directory, such as /data")
            paths.setdefault(path, f"storage.{field}[{index}]")


def _normalize_path(path: str) -> str:
    """Return an absolute path in the form that Knative compares: ``/a//b/`` and ``/a/./b`` become ``/a/b``."""
    return "/" + posixpath.normpath(path).lstrip("/")


def _check_claim(where: Path, claim: ClaimVolume) -> Iterator[Problem]:
    existing, info = claim.existing_pvc, claim.claim_info
    if claim.ephemeral:
        message = "ephemeral claims are not supported, neither by Run:ai for inference nor by Knative"
        yield Problem("STO005", (*where, "ephemeral"), message, "use emptyDirVolume for scratch space")
    if claim.data_sharing:
        message = "dataSharing is not supported: Run:ai's control plane shares claims across a project"
        fix = "create the claim with access mode ReadWriteMany and use existingPvc: true"
        yield Problem("STO005", (*where, "dataSharing"), message, fix)
    if existing and claim.claim_name is None:
        yield Problem("STO005", where, "existingPvc requires claimName", "set claimName")
    path = (*where, "claimInfo")
    if existing and info is not None:
        message = "claimInfo is not valid for an existing claim"
        yield Problem("STO005", path, message, "remove claimInfo or existingPvc", fixes=remove_field())
    if not existing and (info is None or info.size is None):
        yield Problem("STO005", where, "a new claim requires a size", "set claimInfo.size, or existingPvc: true")
    if info is None:
        return
    if info.size is not None and not quantities.parse_nano(info.size):
        yield invalid_amount((*path, "size"), info.size, "storage", "100Gi")
    if info.volume_mode == "Block":
        message = "a block volume cannot be mounted at a path, and Knative does not support volumeDevices"
        yield Problem("STO005", (*path, "volumeMode"), message, "use volumeMode: Filesystem")
    if info.added_attr_values:
        message = "addedAttrValues is not supported: attributes of a storage asset are available only in Run:ai's control plane"
        yield Problem("STO005", (*path, "addedAttrValues"), message, "set storageClass instead")
    modes = info.access_modes
    if modes is not None and not (modes.read_write_once or modes.read_only_many or modes.read_write_many):
        message = "the claim has no access mode"
        yield Problem("STO005", (*path, "accessModes"), message, "set at least one access mode to true")
