"""Objectives of tokens in an SLO, from the fields of the spec. Without pydantic, since the rules of ``render`` read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ebbtide.core.spec.serving import Slo

#: Percentage of an objective of tokens that sets none.
DEFAULT_TOKEN_PERCENT: Final = 95.0


class TokenObjective(NamedTuple):
    """An objective of tokens."""

    name: str
    """``ttft`` (time to first token) or ``itl`` (inter-token latency), as in ``--slo ttft-p95=500ms``."""
    limit: float
    """Seconds."""
    share: float
    """Fraction of the responses or tokens that must be within the limit."""


#: Bounds of the period of a report, in seconds: one minute, and the longest retention to expect.
MIN_PERIOD: Final = 60.0
MAX_PERIOD: Final = 400 * 86_400.0
#: Titles of the objectives by name.
TITLES: Final = {"ttft": "time to first token", "itl": "inter-token latency"}


def list_token_objectives(slo: Slo) -> tuple[TokenObjective, ...]:
    """Return the objectives of tokens in the order of the spec."""
    candidates = (
        ("ttft", slo.time_to_first_token_milliseconds, slo.time_to_first_token_percent),
        ("itl", slo.inter_token_milliseconds, slo.inter_token_percent),
    )
    return tuple(
        TokenObjective(name, limit / 1000, round((percent or DEFAULT_TOKEN_PERCENT) / 100, 12))
        for name, limit, percent in candidates
        if limit is not None
    )
