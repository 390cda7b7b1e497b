"""The operations that change a live workload: what the command, the path of the API and the dialog of the page are made from.

``ebbtide.cluster.write.revisions`` has the functions that carry them out. This module loads nothing of a cluster, so that the
help and the completion of commands do not wait for one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ebbtide.core.base.annotations import MAX_COUNT
from ebbtide.core.units import parse_positive, parse_whole


class Parameter(NamedTuple):
    """A parameter: an option of the command, a key of the request, a field of the dialog.

    ``name`` is its key, ``flag`` the option, whose name is also that of the dialog's field. ``help`` describes it, and ``unset``
    what applies without it. A whole number has a ``minimum``, another number is above 0. ``maximum`` is also the maximum
    length of a text.
    """

    name: str
    flag: str
    help: str
    kind: type[int | float | str] = str
    minimum: int = 0
    maximum: int = 253
    unset: str = ""
    metavar: str = "N"

    @property
    def field(self) -> str:
        """The name of the dialog's field."""
        return self.flag.lstrip("-")

    @property
    def label(self) -> str:
        """The label of the dialog's field."""
        return self.help.partition(",")[0]

    @property
    def is_fraction(self) -> bool:
        """True for a number that need not be whole."""
        return self.kind is float

    def parse(self, text: str) -> Any:
        """Return the value of an option or of a field. Raises ValueError with the valid form."""
        if self.kind is int:
            return parse_whole(text, self.minimum, self.maximum)
        return parse_positive(text, self.maximum) if self.is_fraction else text


class Operation(NamedTuple):
    """An operation on one workload: the name of the command, of the path and of the dialog, and its parameters.

    ``title`` and ``about`` describe the path, ``request`` the body. ``until`` is the state that ``--wait`` waits for.
    """

    name: str
    title: str
    about: str
    until: str
    parameters: tuple[Parameter, ...] = ()
    request: str = ""
    #: The help of ``--reset`` for an operation that resets the workload if no parameter is set.
    reset: str = ""
    #: True if the command asks for confirmation.
    asks: bool = False

    @property
    def label(self) -> str:
        """The label of the dialog."""
        return self.title.removesuffix(" Workload").capitalize()


SCALE: Final = Operation(
    "scale",
    "Scale Workload",
    "Set minimum replicas, maximum replicas or scaling threshold as a manual override, without a new revision.\n\n"
    "An empty body removes the override and restores the values of the spec.",
    "the replicas are ready",
    (
        Parameter("minReplicas", "--min", "Minimum replicas", int, 0, MAX_COUNT),
        Parameter("maxReplicas", "--max", "Maximum replicas", int, 0, MAX_COUNT),
        Parameter(
            "metricThreshold", "--target", "Scaling threshold, in the unit of the scaling metric", float, 0, 10**9
        ),
    ),
    request="Replica bounds or scaling threshold to set; an empty body restores the values of the spec.",
    reset="Remove the manual override and restore the values of the spec",
)
ROLLBACK: Final = Operation(
    "rollback",
    "Roll Back Workload",
    "Route all traffic to a revision until the next apply.",
    "the workload is ready",
    (Parameter("to", "--to", "Name of the revision", unset="what the newest revision replaced", metavar="REVISION"),),
    request="The revision to roll back to; by default, the previous ready revision.",
    asks=True,
)
SUSPEND: Final = Operation(
    "suspend", "Suspend Workload", "Stop a KServe workload and keep its spec.", "the workload is stopped or ready"
)
RESUME: Final = Operation("resume", "Resume Workload", "Start a suspended KServe workload.", SUSPEND.until)
CHANGES: Final = (SCALE, ROLLBACK, SUSPEND, RESUME)
