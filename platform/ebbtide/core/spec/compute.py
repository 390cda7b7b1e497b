"""CPU, memory, GPU and other resources of one replica: Run:ai's ``compute`` block."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.core.spec.scalars import Model, NotNegative, Quantity, Text, empty_list

Cores = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Portion = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ExtendedResource(Model):
    """A device or other countable resource, identified by its Kubernetes resource name."""

    resource: Text
    """Resource name with vendor prefix, such as ``nvidia.com/gpu`` or ``rdma/hca``."""
    quantity: Quantity
    """Number of units, a whole number. 0 of a GPU resource has no effect next to a GPU request."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""


class Compute(Model):
    """CPU, memory and GPU resources of one replica."""

    cpu_core_request: Cores | None = None
    """CPU request in cores, such as 0.5 or 2."""
    cpu_core_limit: Cores | None = Field(default=None, examples=[1000])
    """CPU limit in cores. Must not be below cpuCoreRequest."""
    cpu_memory_request: Quantity | None = None
    """Memory request, such as 16Gi."""
    cpu_memory_limit: Quantity | None = Field(default=None, examples=["300Gi"])
    """Memory limit. Must not be below cpuMemoryRequest."""
    gpu_devices_request: NotNegative | None = None
    """Number of GPU devices per replica. With gpuPortionRequest, the number of devices to take the fraction from."""
    gpu_request_type: Literal["portion", "memory", "migProfile"] | None = None
    """Field that sets the size of a fractional GPU request: portion, memory, or (up to Run:ai 2.23) migProfile."""
    gpu_portion_request: Portion | None = Field(default=None, examples=[0.5, 0.25, 0.1])
    """GPU fraction: fraction of each device's memory to request, above 0 and at most 1."""
    gpu_portion_limit: Portion | None = Field(default=None, examples=[0.75])
    """GPU fraction limit: maximum fraction of each device's memory. Requires gpuPortionRequest."""
    gpu_memory_request: Quantity | None = None
    """GPU memory request per device, such as 20Gi or 4000M."""
    gpu_memory_limit: Quantity | None = None
    """GPU memory limit per device. Requires gpuMemoryRequest."""
    gpu_compute_percentage: Annotated[int, Field(ge=1, le=100)] | None = None
    """GPU compute per device, in percent. HAMi and MPS limit a replica to it, and MIG provides at least as much. Requires a
    GPU request. Ebbtide extension."""
    mig_profile: Annotated[str, Field(pattern=r"^[1-9]g\.[0-9]+gb(\+me)?$")] | None = Field(
        default=None, examples=["1g.10gb", "2g.20gb"]
    )
    """MIG profile, such as 1g.10gb."""
    large_shm_request: bool = False
    """Mount a large in-memory ``/dev/shm`` into the container."""
    shm_size: Quantity | None = None
    """Maximum size of /dev/shm, such as 8Gi. Mounts an in-memory /dev/shm, as largeShmRequest does. Default: the memory of
    the node. Ebbtide extension."""
    extended_resources: list[ExtendedResource] = empty_list([{"resource": "example.com/fpga", "quantity": "1"}])
    """Other devices, by Kubernetes resource name. GPUs are read as the GPU request that they are."""
