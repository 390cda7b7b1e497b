"""Volumes, mounts, and the volume claims that are created for a workload."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ebbtide.core.base import names
from ebbtide.core.base.problems import Path
from ebbtide.core.translation.objects import Object, make_claim, prune_nulls, to_camel
from ebbtide.core.translation.plan import Plan
from ebbtide.core.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.core.spec.inference import InferenceSpec
    from ebbtide.core.spec.storage import ClaimVolume

SHM: Final = "/dev/shm"  # noqa: S108 - a path in the pod


def mounts_volume(spec: InferenceSpec) -> bool:
    """Return whether the server has a volume from which it can read its weights."""
    return bool(spec.storage.pvc or spec.storage.csi_volume or spec.storage.image_volume)


def _parse_mode(text: str | None) -> int | None:
    return None if text is None else int(text, 8)


class VolumeKind(NamedTuple):
    """A list of the storage block.

    ``prefix`` is that of generated volume names, ``path`` the attribute with the mount path, ``feature`` the name of the pod
    patch, and ``cause`` the field that problems name. ``make_source`` also gets the name of a claim that the spec does not name.
    """

    attribute: str
    prefix: str
    path: str
    feature: str
    cause: Path
    make_source: Callable[[Any, str], dict[str, Any]]
    is_read_only: Callable[[Any], bool]


STORAGE: Final = ("spec", "storage")
KINDS: Final = (
    VolumeKind(
        "config_map_volume",
        "config",
        "mount_path",
        "storage/files/config",
        STORAGE,
        lambda item, _: {"configMap": {"name": item.config_map, "defaultMode": _parse_mode(item.default_mode)}},
        lambda _: True,
    ),
    VolumeKind(
        "secret_volume",
        "secret",
        "mount_path",
        "storage/files/secret",
        STORAGE,
        lambda item, _: {"secret": {"secretName": item.secret, "defaultMode": _parse_mode(item.default_mode)}},
        lambda _: True,
    ),
    VolumeKind(
        "empty_dir_volume",
        "scratch",
        "path",
        "storage/scratch",
        (*STORAGE, "emptyDirVolume"),
        lambda item, _: {
            "emptyDir": {
                "medium": item.medium or None,
                "sizeLimit": None if item.size_limit is None else str(item.size_limit),
            }
        },
        lambda _: False,
    ),
    VolumeKind(
        "image_volume",
        "image",
        "mount_path",
        "storage/images",
        (*STORAGE, "imageVolume"),
        lambda item, _: {"image": {"reference": item.image, "pullPolicy": item.pull_policy}},
        lambda _: True,
    ),
    VolumeKind(
        "csi_volume",
        "csi",
        "mount_path",
        "storage/csi",
        (*STORAGE, "csiVolume"),
        lambda item, _: {
            "csi": {
                "driver": item.driver,
                "readOnly": item.read_only or None,
                "fsType": item.fs_type,
                "volumeAttributes": item.volume_attributes,
                "nodePublishSecretRef": item.node_publish_secret and {"name": item.node_publish_secret},
            }
        },
        lambda item: item.read_only,
    ),
    VolumeKind(
        "pvc",
        "claim",
        "path",
        "storage/claims",
        (*STORAGE, "pvc"),
        lambda item, name: {
            "persistentVolumeClaim": {"claimName": item.claim_name or name, "readOnly": item.read_only or None}
        },
        lambda item: item.read_only,
    ),
)


def make_storage_patches(plan: Plan) -> list[PodPatch]:
    """Return the patches of the volumes, by feature, so that a problem about a feature flag names the field that needs it."""
    storage, compute = plan.spec.storage, plan.spec.compute
    result = []
    if compute.large_shm_request or compute.shm_size is not None:
        size = None if compute.shm_size is None else str(compute.shm_size)
        shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
        at = [{"name": "shm", "mountPath": SHM}]
        cause = ("spec", "compute", "largeShmRequest")
        result.append(PodPatch("storage/shm", cause, volumes=[prune_nulls(shm)], mounts=at))
    taken = {"shm"} if plan.spec.start is None else {"shm", names.WEIGHTS_VOLUME, names.COMPILED_VOLUME}
    for kind in KINDS:
        volumes: list[dict[str, Any]] = []
        mounts: list[dict[str, Any]] = []
        objects: list[Object] = []
        for number, item in enumerate((item for item in getattr(storage, kind.attribute) if not item.exclude), 1):
            name = _choose_name(item.name, kind.prefix, number, taken)
            source = kind.make_source(item, names.name_claim(plan.name, number))
            volumes.append({"name": name, **source})
            mounts.append(
                {
                    "name": name,
                    "mountPath": getattr(item, kind.path),
                    "subPath": getattr(item, "sub_path", None),
                    "readOnly": kind.is_read_only(item) or None,
                }
            )
            if kind.attribute == "pvc" and not item.existing_pvc:
                objects.append(_make_new_claim(source["persistentVolumeClaim"]["claimName"], item))
        if volumes:
            volumes, mounts = prune_nulls(volumes), prune_nulls(mounts)
            result.append(PodPatch(kind.feature, kind.cause, volumes=volumes, mounts=mounts, objects=objects))
    return result


def _choose_name(written: str | None, prefix: str, number: int, taken: set[str]) -> str:
    """Return a volume's name: as written if it is a valid name that no other volume has, otherwise a generated one."""
    name = names.name_volume(prefix, number)
    if (
        written is not None
        and written not in taken
        and names.LABEL.fullmatch(written)
        and len(written) <= names.LONGEST
    ):
        name = written
    while name in taken:
        prefix = f"{prefix}-volume"
        name = names.name_volume(prefix, number)
    taken.add(name)
    return name


def _make_new_claim(name: str, volume: ClaimVolume) -> Object:
    """Return a new claim. ``volume`` has passed the rules, so it has a size."""
    info = volume.claim_info
    assert info is not None
    modes = info.access_modes
    fields = ("read_write_once", "read_only_many", "read_write_many")
    access = [to_camel(f"_{field}") for field in fields if getattr(modes, field)] if modes else ["ReadWriteOnce"]
    return make_claim(name, access, info.storage_class, info.size, info.volume_mode)
