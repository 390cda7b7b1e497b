"""The small types that specs are made of, with their bounds.

Only shape lives here: what is wrong *between* fields is in ``ebbtide.spec.rules``. The models carry no
Python validators and no methods, so that their compiled schema can be loaded without pydantic itself
(see ``ebbtide.readers.compiled``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

#: A Kubernetes quantity as text or a whole number: ``500m``, ``16Gi``, ``2``. Parsed in ``ebbtide.base.quantities``.
Quantity = (
    Annotated[str, Field(pattern=r"^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$", max_length=40)]
    | Annotated[int, Field(ge=0)]
)
#: The name of a Secret, ConfigMap or claim: ``hf-token``.
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
#: A Kubernetes label: 63 characters, a letter or digit at each end.
Label = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[int, Field(ge=0, le=3600)]
Positive = Annotated[int, Field(ge=1, le=2_147_483_647)]
NotNegative = Annotated[int, Field(ge=0, le=2_147_483_647)]
Port = Annotated[int, Field(ge=1, le=65535)]
Percentage = Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)]
#: Octal file mode as Run:ai writes it: ``0644``.
FileMode = Annotated[str, Field(pattern=r"^0[0-7]{3}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/", max_length=4096)]
#: A command line as one text (split as a shell splits it) or as a list of words.
Words = Annotated[str, Field(min_length=1)] | list[str]


class Model(BaseModel):
    """The base of every spec model: strict, frozen, unknown fields refused, camelCase outside."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", alias_generator=to_camel)


def nothing() -> Any:
    """Return the default of a list: none, as one shared empty tuple that pydantic need not copy."""
    return Field(default=())


class Named(Model):
    """A name with a value, as Run:ai writes labels and annotations."""

    name: Annotated[str, Field(min_length=1, max_length=316)]
    """The key, with its prefix if it has one."""
    value: str = ""
    """The value."""
    exclude: bool = False
    """Run:ai's mark for "do not inherit this item from a policy"; there is none to inherit from here."""


Protocol = Literal["http", "grpc"]
