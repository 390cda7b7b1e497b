"""A faster cold start: the ``start`` block. Its choices are the rows of ``ebbtide.core.translation.start``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.core.spec.scalars import AbsolutePath, Model, ObjectName, Quantity, Text


class SharedClaim(Model):
    """A claim that all replicas of a workload mount."""

    claim_name: ObjectName | None = None
    """Name of the claim. Default: the name of the workload with ``-weights`` or ``-compiled``."""
    existing_pvc: bool = False
    """Use an existing claim instead of creating one. Requires claimName. Several workloads can share it."""
    size: Quantity | None = None
    """Size of a new claim, such as 100Gi."""
    storage_class: ObjectName | None = None
    """Storage class of a new claim. Default: the cluster's default storage class."""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    """Access mode of a new claim. ReadWriteOnce keeps all replicas on one node. ReadOnlyMany cannot be filled."""


class Weights(SharedClaim):
    """A copy of the weights on a claim: a Job downloads them once, and all replicas mount them read-only."""

    uri: Text | None = Field(default=None, examples=["hf://acme/chat"])
    """Storage URI of the weights for an image: hf://…, s3://…, gs://… or https://…. A model has model.uri instead. The copy
    of a URI is never downloaded again, so name a revision if it can change."""
    mount_path: AbsolutePath | None = None
    """Directory of the weights in the container of an image. Default: /mnt/models, the directory of a model in KServe."""


class CompilationCache(SharedClaim):
    """Artifacts that the engine has compiled, such as those of torch.compile, on a claim that later starts read."""


class Streaming(Model):
    """Streaming of the weights to the GPU in parallel, by Run:ai's Model Streamer in the engine."""

    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Number of parallel reads. Default: that of the streamer."""
    memory_limit: Quantity | None = None
    """Memory of the buffer between the storage and the GPU, such as 4Gi, which counts as memory of the container. Default: that
    of the streamer."""


class ModelCache(Model):
    """A copy of a model on the disks of the nodes, which KServe's LocalModelNamespaceCache downloads once for each node."""

    size: Quantity
    """Size of the model, such as 20Gi. KServe compares it with the storage limit of the node group."""
    node_groups: list[Text] = Field(examples=[["l4"]])
    """Names of KServe's LocalModelNodeGroups. The replicas run on the nodes of the first one."""


class Start(Model):
    """Choices that shorten the start of a replica. Ebbtide extension."""

    weights: Weights | None = Field(default=None, examples=[{"uri": "hf://acme/chat", "size": "9Gi"}, {"size": "9Gi"}])
    """A copy of the weights on a claim, for any serving mode."""
    model_cache: ModelCache | None = Field(default=None, examples=[{"size": "9Gi", "nodeGroups": ["a100"]}])
    """A copy of ``model.uri`` on the disks of the nodes, by KServe."""
    compilation_cache: CompilationCache | None = Field(default=None, examples=[{"size": "9Gi"}])
    """Compiled artifacts of the engine on a claim."""
    pre_pull_image: bool = False
    """Pull the image, and those of the model and of image volumes, to every node that a replica can run on, before a replica
    starts there."""
    streaming: Streaming | None = Field(default=None, examples=[{}])
    """Streaming of the weights, from a directory or from an object store. ``{}`` turns it on."""
