"""Settings of an installed KAI-Scheduler, from the arguments of its Deployments.

Upstream: KAI-Scheduler v0.17.0 cmd/podgrouper/app/options.go (``--knative-gang-schedule``, true by default),
cmd/admission/app/options.go (``--gpu-sharing-enabled``, false by default), cmd/binder/app/options.go (``--plugins``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ebbtide.core.base.paths import get_at
from ebbtide.core.base.versions import parse_version
from ebbtide.core.translation.gpu.kai import MODES_SINCE
from ebbtide.core.translation.objects import Object

KAI_NAMESPACE: Final = "kai-scheduler"
GANG_FLAG: Final = "--knative-gang-schedule"
SHARING_FLAG: Final = "--gpu-sharing-enabled"
PLUGINS_FLAG: Final = "--plugins"
#: The RuntimeClass of pods with a part of a GPU, and before it the one of all pods with a GPU (v0.12.0
#: pkg/admission/webhook/v1alpha2/runtimeenforcement).
FRACTION_CLASS_FLAG: Final = "--gpu-fraction-runtime-class-name"
POD_CLASS_FLAG: Final = "--gpu-pod-runtime-class-name"
#: The first version that is known to have the first one.
FRACTION_CLASS: Final = (0, 17)
CLASS_DEFAULT: Final = "nvidia"
HAMI_CORE_PLUGIN: Final = "hamicore"


def read_kai_settings(deployments: Iterable[Object], version: str) -> dict[str, Any]:
    """Return the profile's ``scheduling.kai``, without the version; a flag that is not set has KAI's default."""
    flags = _read_flags(deployments)
    return {
        "gangScheduleKnative": flags.get(GANG_FLAG, "true") != "false",
        "sharingMode": _read_sharing_mode(flags, version),
    }


class EnforcedClass(NamedTuple):
    """The RuntimeClass that KAI's webhook sets on pods with a part of a GPU, or with any GPU; an empty name if none."""

    name: str
    whole: bool


def read_runtime_class(deployments: Iterable[Object], version: str) -> EnforcedClass:
    """Return the RuntimeClass that KAI's webhook sets, from the flag that this version has."""
    flags = _read_flags(deployments)
    # KAI 0.17 still accepts the former flag, for parts of GPUs.
    known = not version or parse_version(version) < FRACTION_CLASS
    whole = FRACTION_CLASS_FLAG not in flags and POD_CLASS_FLAG in flags and known
    return EnforcedClass(flags.get(FRACTION_CLASS_FLAG, flags.get(POD_CLASS_FLAG, CLASS_DEFAULT)), whole)


def _read_sharing_mode(flags: dict[str, str], version: str) -> str:
    if SHARING_FLAG not in flags and version and parse_version(version) >= MODES_SINCE["NvFractions"]:
        # From 0.18, sharing without enforcement is the default, and the flag is deprecated.
        return "NonMemoryEnforced"
    if flags.get(SHARING_FLAG) != "true":
        return "Disabled"
    return "HamiCore" if _uses_hami_core(flags.get(PLUGINS_FLAG, "")) else "NonMemoryEnforced"


def _uses_hami_core(plugins: str) -> bool:
    try:
        enabled = get_at(json.loads(plugins), HAMI_CORE_PLUGIN, "enabled", default=False)
    except ValueError:
        return False
    return enabled is True


def _read_flags(deployments: Iterable[Object]) -> dict[str, str]:
    """Return the values of all flags of all containers: ``--flag=value`` or ``--flag value``."""
    flags: dict[str, str] = {}
    for deployment in deployments:
        for container in get_at(deployment, "spec", "template", "spec", "containers", default=[]):
            words = [str(word) for word in container.get("args") or ()]
            for word, after in zip(words, [*words[1:], "--"], strict=False):
                flag, equals, value = word.partition("=")
                if flag.startswith("--"):
                    flags[flag] = value if equals else "true" if after.startswith("--") else after
    return flags
