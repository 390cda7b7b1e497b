"""Tests of the GPUs that a resource claim requests."""

from __future__ import annotations

from ebbtide.core.base import keys
from ebbtide.core.translation.gpu import dra
from ebbtide.core.translation.gpu.backend import DraDevice, GpuNode


def test_only_the_requests_that_ebbtide_writes_are_read() -> None:
    whole = {"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}
    other = {"name": "nic", "exactly": {"deviceClassName": "dranet", "count": 1}}
    claim = {"spec": {"devices": {"requests": [other, whole]}}}
    assert dra.read_claim(claim) == {keys.GPU: 2.0}
    assert dra.read_claim({"spec": {"devices": {"requests": [other]}}}) == {}


def test_a_driver_that_names_neither_product_nor_memory_gives_a_pool_without_them() -> None:
    device = DraDevice("gpu-0", {"type": "gpu"}, 0, {"gpu.example.com": ""}, shared=False)
    pool = dra.detect(GpuNode({}, {}, frozenset(), (device,)))
    assert pool == {"name": "dra", "backend": "dra", "devices": 1, "deviceClass": "gpu.example.com"}
