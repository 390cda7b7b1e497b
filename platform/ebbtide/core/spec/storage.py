"""Volumes of a replica: Run:ai's ``storage`` block."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ebbtide.core.spec.scalars import AbsolutePath, FileMode, Model, ObjectName, Quantity, Text, empty_list


class Mount(Model):
    """Fields of every type of volume."""

    name: Text | None = None
    """Name of the volume, if it is a valid and unique name; otherwise a display name, and Ebbtide generates one."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""


class ConfigMapVolume(Mount):
    """A volume with files from a ConfigMap."""

    config_map: ObjectName
    """Name of the ConfigMap."""
    mount_path: AbsolutePath
    """Mount path in the container."""
    sub_path: Text | None = None
    """Single key to mount instead of all keys. A relative path without ``..``."""
    default_mode: FileMode | None = None
    """File mode in octal, such as 0644."""


class SecretVolume(Mount):
    """A volume with files from a Secret."""

    secret: ObjectName
    """Name of the Secret."""
    mount_path: AbsolutePath
    """Mount path in the container."""
    default_mode: FileMode | None = None
    """File mode in octal, such as 0644."""


class EmptyDirVolume(Mount):
    """A scratch volume that exists as long as the replica."""

    path: AbsolutePath
    """Mount path in the container."""
    medium: Literal["Memory", ""] | None = None
    """Memory for a RAM disk, which counts against the container's memory limit. Default: the node's disk."""
    size_limit: Quantity | None = None
    """Maximum size of the volume, such as 10Gi."""


class AccessModes(Model):
    """Access modes of a new persistent volume claim."""

    read_write_once: bool = True
    """ReadWriteOnce: read-write on one node."""
    read_only_many: bool = False
    """ReadOnlyMany: read-only on many nodes."""
    read_write_many: bool = False
    """ReadWriteMany: read-write on many nodes."""


class ClaimInfo(Model):
    """Properties of a new persistent volume claim."""

    size: Quantity | None = None
    """Size of the claim, such as 100Gi. Required for a new claim."""
    storage_class: ObjectName | None = None
    """Storage class. Default: the cluster's default storage class."""
    access_modes: AccessModes | None = Field(default=None, examples=[{"readWriteOnce": False, "readWriteMany": True}])
    """Access modes of the claim."""
    volume_mode: Literal["Filesystem", "Block"] | None = None
    """Volume mode. Only Filesystem is supported."""
    added_attr_values: list[dict[str, str]] = empty_list()
    """Attributes of a Run:ai storage asset. Not supported."""


class ClaimVolume(Mount):
    """A volume from an existing or a new persistent volume claim."""

    path: AbsolutePath
    """Mount path in the container."""
    existing_pvc: bool = False
    """Use an existing claim instead of creating one. Requires claimName."""
    claim_name: ObjectName | None = None
    """Name of the claim."""
    read_only: bool = False
    """Mount the volume read-only."""
    ephemeral: bool = False
    """Create a claim for each pod. Not supported; Run:ai does not offer it for inference either."""
    claim_info: ClaimInfo | None = None
    """Properties of a new claim. Not valid with existingPvc."""
    data_sharing: bool = False
    """Share the claim across a project through Run:ai's control plane. Not supported."""


class ImageVolume(Mount):
    """A read-only volume with the files of a container image. Ebbtide extension."""

    image: Text
    """Container image."""
    mount_path: AbsolutePath
    """Mount path in the container."""
    pull_policy: Literal["Always", "Never", "IfNotPresent"] | None = None
    """Image pull policy. Default: Always for the tag ``:latest`` or no tag, otherwise IfNotPresent."""


class CsiVolume(Mount):
    """A volume that a CSI driver creates for each replica, such as secrets-store.csi.k8s.io. Ebbtide extension."""

    driver: Text
    """Name of the CSI driver."""
    mount_path: AbsolutePath
    """Mount path in the container."""
    read_only: bool = True
    """Mount the volume read-only. Knative requires it."""
    fs_type: Text | None = None
    """File system type, such as ext4. Default: that of the driver."""
    volume_attributes: dict[str, str] | None = Field(default=None, examples=[{"bucket": "scratch"}])
    """Properties for the driver."""
    node_publish_secret: ObjectName | None = None
    """Secret with credentials for the driver."""


class Storage(Model):
    """Volumes, by type."""

    config_map_volume: list[ConfigMapVolume] = empty_list()
    """Volumes from ConfigMaps."""
    secret_volume: list[SecretVolume] = empty_list()
    """Volumes from Secrets."""
    empty_dir_volume: list[EmptyDirVolume] = empty_list([{"path": "/scratch"}])
    """Scratch volumes."""
    pvc: list[ClaimVolume] = empty_list()
    """Volumes from persistent volume claims."""
    image_volume: list[ImageVolume] = empty_list([{"image": "registry.example.com/tools:1", "mountPath": "/tools"}])
    """Volumes from container images. Ebbtide extension."""
    csi_volume: list[CsiVolume] = empty_list([{"driver": "csi.example.com", "mountPath": "/csi"}])
    """Volumes of CSI drivers. Ebbtide extension."""
    host_path: list[dict[str, Any]] = empty_list()
    """Directories of the node. Not supported."""
    nfs: list[dict[str, Any]] = empty_list()
    """NFS shares. Not supported."""
    git: list[dict[str, Any]] = empty_list()
    """Git repositories. Not supported."""
    data_volume: list[dict[str, Any]] = empty_list()
    """Run:ai data volumes. Not supported."""
