"""What is mounted into a replica: Run:ai's ``storage`` block."""

from __future__ import annotations

from typing import Literal

from ebbtide.spec.scalars import AbsolutePath, FileMode, Model, ObjectName, Quantity, Text, nothing


class Mount(Model):
    """What every kind of volume has."""

    name: Text | None = None
    """A name for people; the volume's own name is made by Ebbtide."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""


class ConfigMapVolume(Mount):
    """Files from a ConfigMap."""

    config_map: ObjectName
    """The ConfigMap's name."""
    mount_path: AbsolutePath
    """Where it appears."""
    sub_path: Text | None = None
    """One key of it instead of all."""
    default_mode: FileMode | None = None
    """The files' mode."""


class SecretVolume(Mount):
    """Files from a Secret."""

    secret: ObjectName
    """The Secret's name."""
    mount_path: AbsolutePath
    """Where it appears."""
    default_mode: FileMode | None = None
    """The files' mode."""


class EmptyDirVolume(Mount):
    """A scratch folder that lives as long as the replica."""

    path: AbsolutePath
    """Where it appears."""
    medium: Literal["Memory", ""] | None = None
    """Memory for a RAM disk; it counts against the container's memory limit."""
    size_limit: Quantity | None = None
    """Its size at most."""


class AccessModes(Model):
    """How a claim may be mounted."""

    read_write_once: bool = True
    """By one node."""
    read_only_many: bool = False
    """By many nodes, reading."""
    read_write_many: bool = False
    """By many nodes."""


class ClaimInfo(Model):
    """A claim to be made."""

    size: Quantity | None = None
    """Its size."""
    storage_class: ObjectName | None = None
    """Its storage class; default the cluster's."""
    access_modes: AccessModes | None = None
    """How it may be mounted."""
    volume_mode: Literal["Filesystem", "Block"] | None = None
    """Filesystem, or a raw device."""
    added_attr_values: list[dict[str, str]] = nothing()
    """Attributes of a Run:ai storage asset; refused."""


class ClaimVolume(Mount):
    """A persistent volume claim, existing or new."""

    path: AbsolutePath
    """Where it appears."""
    existing_pvc: bool = False
    """Whether the claim is there already."""
    claim_name: ObjectName | None = None
    """The claim's name."""
    read_only: bool = False
    """Whether the mount is read-only."""
    ephemeral: bool = False
    """A claim for each pod; Run:ai does not offer it for inference."""
    claim_info: ClaimInfo | None = None
    """How to make a new claim."""
    data_sharing: bool = False
    """Run:ai's sharing of a claim over a project; refused."""


class HostPathVolume(Mount):
    """A folder of the node; refused under the restricted rule."""

    path: AbsolutePath
    """The folder on the node."""
    mount_path: AbsolutePath
    """Where it appears."""
    read_only: bool = True
    """Whether the mount is read-only."""
    mount_propagation: Literal["None", "HostToContainer"] | None = None
    """Whether later mounts on the node appear."""


class NfsVolume(Mount):
    """An NFS share; refused, since Knative and the restricted rule want a claim."""

    server: Text
    """The server."""
    path: AbsolutePath
    """The share."""
    mount_path: AbsolutePath
    """Where it appears."""
    read_only: bool = True
    """Whether the mount is read-only."""


class DataVolume(Mount):
    """A Run:ai data volume; refused, since it lives in Run:ai's control plane."""

    id: str | None = None
    """Its id."""
    mount_path: str | None = None
    """Where it appears."""


class GitSecret(Model):
    """How to log in to the repository."""

    name: Text | None = None
    """The Secret's name."""
    authentication_method: Literal["password", "ssh-key"] | None = None
    """By password or key."""
    secret_key_of_user: Text | None = None
    """The key that holds the user."""
    secret_key_of_password: Text | None = None
    """The key that holds the password."""


class GitVolume(Mount):
    """A git repository's files; refused, since it needs a container that Ebbtide does not ship."""

    repository: Text | None = None
    """Its address."""
    branch: Text | None = None
    """The branch."""
    revision: Text | None = None
    """The commit."""
    path: Text | None = None
    """Where it appears."""
    password_secret: Text | None = None
    """The Secret to log in with."""
    secret_key_of_user: Text | None = None
    """The key that holds the user."""
    secret_key_of_password: Text | None = None
    """The key that holds the password."""
    secret_ref: GitSecret | None = None
    """The Secret to log in with."""


class Storage(Model):
    """The volumes by kind."""

    config_map_volume: list[ConfigMapVolume] = nothing()
    """Files from ConfigMaps."""
    secret_volume: list[SecretVolume] = nothing()
    """Files from Secrets."""
    empty_dir_volume: list[EmptyDirVolume] = nothing()
    """Scratch folders."""
    pvc: list[ClaimVolume] = nothing()
    """Persistent volume claims."""
    host_path: list[HostPathVolume] = nothing()
    """Folders of the node."""
    nfs: list[NfsVolume] = nothing()
    """NFS shares."""
    git: list[GitVolume] = nothing()
    """Git repositories."""
    data_volume: list[DataVolume] = nothing()
    """Run:ai data volumes."""
