"""The validators of specs and profiles, built from the compiled schema where it fits, else by pydantic.

The compiled schema validates exactly as the models do (a test holds both against each other), and its
instances have the same attributes; only methods of pydantic's are missing, and the models have none of their
own. It is used where the installed pydantic_core reads it as the one did that it was written with.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pydantic_core

from ebbtide.readers import compatibility


@cache
def inference_validator() -> Any:
    """Return the validator of ``kind: Inference``."""
    return _validator("Inference")


@cache
def profile_validator() -> Any:
    """Return the validator of ``kind: Profile``."""
    return _validator("Profile")


def validation_error() -> type[pydantic_core.ValidationError]:
    """Return the exception that the validators raise."""
    return pydantic_core.ValidationError


def _validator(name: str) -> Any:
    return compiled(name) if fits() else by_pydantic(name)


@cache
def fits() -> bool:
    """Whether the installed pydantic_core reads the compiled schema as it is meant."""
    from ebbtide.readers import _compiled  # noqa: PLC0415 - slow to load

    # The version that the trials were recorded with needs none.
    return pydantic_core.__version__ == _compiled.CORE or compatibility.behavior() == _compiled.BEHAVIOR


def by_pydantic(name: str) -> Any:
    """Return the validator that pydantic makes of the models."""
    from ebbtide.profile.models import Profile  # noqa: PLC0415 - pydantic's classes are what is to be avoided
    from ebbtide.spec.inference import Inference  # noqa: PLC0415 - as above

    return Inference.__pydantic_validator__ if name == "Inference" else Profile.__pydantic_validator__


def compiled(name: str) -> Any:
    """Return the validator of the compiled schema."""
    from ebbtide.readers import _compiled  # noqa: PLC0415 - as above

    classes: dict[str, type] = {}

    def class_of(model: str) -> type:
        found = classes.get(model)
        if found is None:
            found = classes[model] = type(model, (), {"__slots__": compatibility.SLOTS, "__doc__": None})
        return found

    def instance(model: str, **values: Any) -> Any:
        made: Any = object.__new__(class_of(model))
        object.__setattr__(made, "__dict__", values)
        object.__setattr__(made, "__pydantic_fields_set__", set())
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made

    return pydantic_core.SchemaValidator(_compiled.schemas(class_of, instance)[name])
