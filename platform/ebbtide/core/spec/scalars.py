"""Basic field types of specs, with their bounds.

These types validate single values; ``ebbtide.core.spec.rules`` validates combinations of fields. ``explain`` tries the examples
of a field as other values; without examples, it tries those of the field's type. The models have no Python
validators and no methods, so that their compiled schema can be loaded without pydantic (see
``ebbtide.core.readers.compiled``).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

#: A Kubernetes quantity as a string or an integer: ``500m``, ``16Gi``, ``2``. Parsed in ``ebbtide.core.base.quantities``.
Quantity = (
    Annotated[str, Field(pattern=r"^[+]?[0-9.]+(?:[eE][-+]?[0-9]+|[numkKMGTPE]i?)?$", max_length=40)]
    | Annotated[int, Field(ge=0)]
)
#: The name of a Secret, ConfigMap or claim: ``hf-token``.
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
#: A Kubernetes label value: at most 63 characters, starting and ending with a letter or digit.
Label = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[int, Field(ge=0, le=3600)]
Positive = Annotated[int, Field(ge=1, le=2_147_483_647)]
NotNegative = Annotated[int, Field(ge=0, le=2_147_483_647)]
Port = Annotated[int, Field(ge=1, le=65535)]
Percentage = Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)]
#: An octal file mode in Run:ai's format: ``0644``.
FileMode = Annotated[str, Field(pattern=r"^0[0-7]{3}$")]
AbsolutePath = Annotated[str, Field(pattern=r"^/", max_length=4096)]
#: A command line as one string, split as a shell does, or as a list of words.
Words = Annotated[str, Field(min_length=1)] | list[str]

T = TypeVar("T")
#: Mark of a field that Run:ai's update of a workload may change (runapy, schema InferenceUpdateSpecSpec).
UPDATABLE: Final = "updatable"
Updatable = Annotated[T, UPDATABLE]


class Model(BaseModel):
    """Base class of all spec models: strict, frozen, without unknown fields, with camelCase aliases."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", alias_generator=to_camel)


def empty_list(*examples: Any) -> Any:
    """Return the default of an empty list: a shared empty tuple, which pydantic does not copy."""
    return Field(default=(), examples=[*examples] or None)


class NamedValue(Model):
    """A label or annotation: a key with a value."""

    name: Annotated[str, Field(min_length=1, max_length=316)]
    """Key, with an optional prefix."""
    value: str = ""
    """Value."""
    exclude: bool = False
    """Run:ai's marker for "do not inherit this item from a policy". The item is left out."""


Protocol = Literal["http", "grpc"]
