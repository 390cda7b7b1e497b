"""The state of a workload's SLO, as pages show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ebbtide.web.words import tone_of_phase

if TYPE_CHECKING:
    from ebbtide.web.words import Tone

State = Literal["met", "violated", "unknown", "none"]
TONES: Final[dict[State, Tone]] = {"met": "good", "violated": "bad", "unknown": "calm", "none": "calm"}


@dataclass(frozen=True, slots=True)
class SloState:
    """The state of one workload's SLO in the last 24 hours."""

    state: State = "none"
    #: One sentence per objective, the worst first: the objective, the measured value, and the burn rate.
    sentences: tuple[str, ...] = ()

    @property
    def tone(self) -> Tone:
        return TONES[self.state]

    @property
    def words(self) -> str:
        """The state with the worst objective, for a tooltip or a list."""
        return self.sentences[0] if self.sentences else ""


#: The state of a workload without an SLO.
NO_SLO: Final = SloState()


def tone_with_slo(phase: str, slo: SloState, at_zero: bool = False) -> Tone:
    """Return the tone of a phase; a workload that violates its SLO is never shown as good."""
    tone: Tone = "calm" if at_zero else tone_of_phase(phase)
    return "wait" if slo.state == "violated" and tone in {"good", "calm"} else tone
