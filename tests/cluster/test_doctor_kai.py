"""KAI-Scheduler's settings are read from the arguments of its programs, as at v0.17.0."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.cluster.doctor.kai import read_kai_settings, read_runtime_class


def deployment(*args: str) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [{"args": list(args)}]}}}}


@pytest.mark.parametrize(
    ("args", "version", "gang", "mode"),
    [
        # The operator sets no flag that the Helm values leave at their default.
        (("--scheduler-name", "kai-scheduler"), "0.17", True, "Disabled"),
        (("--knative-gang-schedule=false",), "0.17", False, "Disabled"),
        (("--knative-gang-schedule=true", "--gpu-sharing-enabled=true"), "0.17", True, "NonMemoryEnforced"),
        (("--gpu-sharing-enabled=true", "--plugins", '{"hamicore": {"enabled": true}}'), "0.17", True, "HamiCore"),
        (("--gpu-sharing-enabled=true", "--plugins", '{"hamicore": {}}'), "0.17", True, "NonMemoryEnforced"),
        (("--gpu-sharing-enabled=true", "--plugins", "{"), "0.17", True, "NonMemoryEnforced"),
        (("--gpu-sharing-enabled",), "0.17", True, "NonMemoryEnforced"),
        ((), "0.18", True, "NonMemoryEnforced"),
    ],
)
def test_settings_are_read_from_the_arguments(args: tuple[str, ...], version: str, gang: bool, mode: str) -> None:
    assert read_kai_settings([deployment(*args)], version) == {"gangScheduleKnative": gang, "sharingMode": mode}


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ((), "nvidia"),
        (("--gpu-pod-runtime-class-name", "old", "--gpu-sharing-enabled=true"), "old"),
        (("--gpu-fraction-runtime-class-name=new", "--gpu-pod-runtime-class-name", "old"), "new"),
        (("--gpu-fraction-runtime-class-name", ""), ""),
        (("--gpu-fraction-runtime-class-name=",), ""),
    ],
)
def test_runtime_class_of_shared_gpus_is_read_from_the_arguments(args: tuple[str, ...], name: str) -> None:
    assert read_runtime_class([deployment(*args)]) == name
