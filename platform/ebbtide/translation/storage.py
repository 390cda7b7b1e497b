"""Volumes, mounts, and the volume claims that are created for a workload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ebbtide.base import keys, names
from ebbtide.translation.pods import PodPatch

if TYPE_CHECKING:
    from ebbtide.spec.storage import ClaimVolume
    from ebbtide.translation.objects import Object
    from ebbtide.translation.plan import Plan

SHM: Final = "/dev/shm"  # noqa: S108 - a path in the pod


def _parse_mode(text: str | None) -> int | None:
    return None if text is None else int(text, 8)


def make_storage_patches(plan: Plan) -> list[PodPatch]:
    """Return one patch per kind of volume, so that a problem about a feature flag names the field that needs it."""
    storage = plan.spec.storage
    result = []
    if plan.spec.compute.large_shm_request:
        result.append(
            PodPatch(
                by="storage/shm",
                cause=("spec", "compute", "largeShmRequest"),
                volumes=[{"name": "shm", "emptyDir": {"medium": "Memory"}}],
                mounts=[{"name": "shm", "mountPath": SHM}],
            )
        )
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for number, files in enumerate((item for item in storage.config_map_volume if not item.exclude), 1):
        name = names.name_volume("config", number)
        volumes.append(
            {"name": name, "configMap": {"name": files.config_map, "defaultMode": _parse_mode(files.default_mode)}}
        )
        mounts.append({"name": name, "mountPath": files.mount_path, "subPath": files.sub_path, "readOnly": True})
    for number, secret in enumerate((item for item in storage.secret_volume if not item.exclude), 1):
        name = names.name_volume("secret", number)
        volumes.append(
            {"name": name, "secret": {"secretName": secret.secret, "defaultMode": _parse_mode(secret.default_mode)}}
        )
        mounts.append({"name": name, "mountPath": secret.mount_path, "readOnly": True})
    if volumes:
        result.append(PodPatch(by="storage/files", cause=("spec", "storage"), volumes=volumes, mounts=mounts))
    scratch = [item for item in storage.empty_dir_volume if not item.exclude]
    if scratch:
        result.append(
            PodPatch(
                by="storage/scratch",
                cause=("spec", "storage", "emptyDirVolume"),
                volumes=[
                    {
                        "name": names.name_volume("scratch", number),
                        "emptyDir": {
                            "medium": item.medium or None,
                            "sizeLimit": None if item.size_limit is None else str(item.size_limit),
                        },
                    }
                    for number, item in enumerate(scratch, 1)
                ],
                mounts=[
                    {"name": names.name_volume("scratch", number), "mountPath": item.path}
                    for number, item in enumerate(scratch, 1)
                ],
            )
        )
    claims = [item for item in storage.pvc if not item.exclude]
    if claims:
        result.append(_make_claims_patch(plan, claims))
    return result


def _make_claims_patch(plan: Plan, claims: list[ClaimVolume]) -> PodPatch:
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    objects: list[Object] = []
    for number, volume_claim in enumerate(claims, 1):
        name = names.name_volume("claim", number)
        claim = volume_claim.claim_name or names.name_claim(plan.name, number)
        volumes.append(
            {
                "name": name,
                "persistentVolumeClaim": {"claimName": claim, "readOnly": True if volume_claim.read_only else None},
            }
        )
        mounts.append(
            {"name": name, "mountPath": volume_claim.path, "readOnly": True if volume_claim.read_only else None}
        )
        if not volume_claim.existing_pvc:
            objects.append(make_claim(plan, claim, volume_claim))
    return PodPatch(
        by="storage/claims", cause=("spec", "storage", "pvc"), volumes=volumes, mounts=mounts, objects=objects
    )


def make_claim(plan: Plan, name: str, volume: ClaimVolume) -> Object:
    """Return a new claim. ``volume`` has passed the rules, so it has a size."""
    info = volume.claim_info
    assert info is not None
    modes = info.access_modes
    access_modes = (
        ["ReadWriteOnce"]
        if modes is None
        else [
            mode
            for mode, on in (
                ("ReadWriteOnce", modes.read_write_once),
                ("ReadOnlyMany", modes.read_only_many),
                ("ReadWriteMany", modes.read_write_many),
            )
            if on
        ]
    )
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "labels": {keys.APP_NAME: plan.name, keys.APP_MANAGED_BY: "ebbtide"},
        },
        "spec": {
            "accessModes": access_modes,
            "storageClassName": info.storage_class,
            "volumeMode": info.volume_mode,
            "resources": {"requests": {"storage": str(info.size)}},
        },
    }
