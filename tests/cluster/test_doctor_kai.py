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
    ("args", "version", "name", "whole"),
    [
        ((), "0.17", "nvidia", False),
        (("--gpu-pod-runtime-class-name", "old", "--gpu-sharing-enabled=true"), "0.12", "old", True),
        (("--gpu-pod-runtime-class-name", "old", "--gpu-sharing-enabled=true"), "0.17", "old", False),
        (("--gpu-fraction-runtime-class-name=new", "--gpu-pod-runtime-class-name", "old"), "", "new", False),
        (("--gpu-fraction-runtime-class-name", ""), "0.17", "", False),
        (("--gpu-fraction-runtime-class-name=",), "0.17", "", False),
    ],
)
def test_the_runtime_class_of_gpus_is_read_from_the_arguments(
    args: tuple[str, ...], version: str, name: str, *, whole: bool
) -> None:
    assert read_runtime_class([deployment(*args)], version) == (name, whole)
