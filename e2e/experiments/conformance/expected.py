"""Conformance tests that may fail on this cluster, with the reason."""

from collections.abc import Mapping
from typing import Final

EXPECTED: Final[Mapping[str, str]] = {
    "TestContainerExitingMsg": (
        "upstream sets progress-deadline to 120 s for its tests: Knative looks at a crashing container only when its "
        "Deployment changes, and the test waits as long as the default deadline of 600 s"
    ),
}
"""Test → why it may fail."""
