"""The validators that the translation uses: plain pydantic's."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def inference_validator() -> Any:
    """Return the validator of ``kind: Inference``."""
    from ebbtide.spec.inference import Inference

    return Inference.__pydantic_validator__


@cache
def profile_validator() -> Any:
    """Return the validator of ``kind: Profile``."""
    from ebbtide.profile import Profile

    return Profile.__pydantic_validator__


def validation_error() -> type[Exception]:
    """Return the exception that the validators raise."""
    from pydantic_core import ValidationError

    return ValidationError
