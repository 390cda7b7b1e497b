"""A faster cold start: the ``start`` block. Its choices are the rows of ``ebbtide.core.translation.start``."""

from __future__ import annotations

from typing import Literal

from ebbtide.core.spec.scalars import AbsolutePath, Model, ObjectName, Quantity, Text

#: Directory of the weights in the container: that of KServe, which sets it for every model.
WEIGHTS_PATH = "/mnt/models"


class Weights(Model):
    """A copy of the weights on a claim: a Job downloads them once, and all replicas mount them read-only."""

    uri: Text | None = None
    """Storage URI of the weights for an image: hf://…, s3://…, gs://… or https://…. A model has model.uri instead. The copy
    of a URI is never downloaded again, so name a revision if it can change."""
    mount_path: AbsolutePath | None = None
    """Directory of the weights in the container of an image. Default: /mnt/models, the directory of a model in KServe."""
    claim_name: ObjectName | None = None
    """Name of the claim. Default: the name of the workload with ``-weights``."""
    existing_pvc: bool = False
    """Use an existing claim instead of creating one. Requires claimName. Several workloads can share it."""
    size: Quantity | None = None
    """Size of a new claim, such as 100Gi."""
    storage_class: ObjectName | None = None
    """Storage class of a new claim. Default: the cluster's default storage class."""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """Access mode of a new claim. ReadWriteOnce keeps all replicas on one node. ReadOnlyMany cannot be filled."""


class ModelCache(Model):
    """A copy of a model on the disks of the nodes, which KServe's LocalModelNamespaceCache downloads once for each node."""

    size: Quantity
    """Size of the model, such as 20Gi. KServe compares it with the storage limit of the node group."""
    node_groups: list[Text]
    """Names of KServe's LocalModelNodeGroups. The replicas run on the nodes of the first one."""


class Start(Model):
    """Choices that shorten the start of a replica. Ebbtide extension."""

    weights: Weights | None = None
    """A copy of the weights on a claim, for any serving mode."""
    model_cache: ModelCache | None = None
    """A copy of ``model.uri`` on the disks of the nodes, by KServe."""
