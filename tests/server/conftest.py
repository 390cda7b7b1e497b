"""Settings of all tests of the server."""

from __future__ import annotations

import pytest

from ebbtide.server.api import offline


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the workers more time than users get: their processes have a lower priority than the tests that run next to them."""
    monkeypatch.setattr(offline, "MAX_SECONDS", 55.0)
