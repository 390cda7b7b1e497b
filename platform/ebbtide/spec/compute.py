"""What one replica gets: Run:ai's ``compute`` block."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.spec.scalars import Model, NotNegative, Quantity, Text, nothing

Cores = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Portion = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ExtendedResource(Model):
    """A device or other countable resource by its Kubernetes name."""

    resource: Text
    """The resource's name: ``nvidia.com/gpu``, ``rdma/hca``."""
    quantity: Quantity
    """How many, a whole number."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"."""


class Compute(Model):
    """CPU, memory and GPU of one replica."""

    cpu_core_request: Cores | None = None
    """CPU cores reserved: 0.5, 2."""
    cpu_core_limit: Cores | None = None
    """CPU cores that may be used at most."""
    cpu_memory_request: Quantity | None = None
    """Main memory reserved: 16Gi."""
    cpu_memory_limit: Quantity | None = None
    """Main memory that may be used at most."""
    gpu_devices_request: NotNegative | None = None
    """How many GPU devices; with a portion or memory, of how many devices that part is taken."""
    gpu_request_type: Literal["portion", "memory", "migProfile"] | None = None
    """What states the part of a GPU: portion, memory, or (Run:ai up to 2.23) migProfile."""
    gpu_portion_request: Portion | None = None
    """The part of each GPU's memory reserved, above 0 and at most 1."""
    gpu_portion_limit: Portion | None = None
    """The part of each GPU's memory that may be used at most."""
    gpu_memory_request: Quantity | None = None
    """GPU memory reserved, per device: 20Gi, 4000M."""
    gpu_memory_limit: Quantity | None = None
    """GPU memory that may be used at most, per device."""
    mig_profile: Annotated[str, Field(pattern=r"^[1-9]g\.[0-9]+gb(\+me)?$")] | None = None
    """A MIG profile by name: 1g.10gb."""
    large_shm_request: bool = False
    """Give the container a large /dev/shm in memory."""
    extended_resources: list[ExtendedResource] = nothing()
    """Other devices by their Kubernetes resource names."""
