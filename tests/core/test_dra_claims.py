"""Tests of the GPUs that a resource claim requests."""

from __future__ import annotations

from ebbtide.core.base import keys
from ebbtide.core.translation.gpu import dra


def test_only_the_requests_that_ebbtide_writes_are_read() -> None:
    whole = {"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}
    other = {"name": "nic", "exactly": {"deviceClassName": "dranet", "count": 1}}
    claim = {"spec": {"devices": {"requests": [other, whole]}}}
    assert dra.read_claim(claim) == {keys.GPU: 2.0}
    assert dra.read_claim({"spec": {"devices": {"requests": [other]}}}) == {}
