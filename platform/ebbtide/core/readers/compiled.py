"""Validators of specs and profiles, built from the compiled schema if it is compatible, otherwise by pydantic.

The compiled schema validates exactly as the models do (a test compares both), and its instances have the same
attributes. Only pydantic's methods are missing; the models define no other methods. pydantic_core does not guarantee the
meaning of schemas across versions and ignores unknown keys, so the compiled schema is used only with the minor version that it
was generated with; ``make check-pydantic`` tries the oldest release of it.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pydantic_core

#: Attributes that pydantic_core sets on an instance.
SLOTS: Final = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


@cache
def load_core() -> Any:
    """Return the extension module of pydantic_core, without the package, whose type definitions take longer to load.

    The extension is the same if the package is loaded too. Without it in its usual place, the package is returned.
    """
    package = None if "pydantic_core" in sys.modules else PathFinder.find_spec("pydantic_core")
    places = None if package is None else package.submodule_search_locations
    spec = None if places is None else PathFinder.find_spec("pydantic_core._pydantic_core", places)
    if spec is None or spec.loader is None:
        import pydantic_core  # noqa: PLC0415 - loads slowly

        return pydantic_core
    core = module_from_spec(spec)
    spec.loader.exec_module(core)
    return core


@cache
def inference_validator() -> Any:
    """Return the validator of ``kind: Inference``."""
    return _choose_validator("Inference")


@cache
def profile_validator() -> Any:
    """Return the validator of ``kind: Profile``."""
    return _choose_validator("Profile")


def validation_error() -> type[pydantic_core.ValidationError]:
    """Return the class of exceptions that the validators raise."""
    error: type[pydantic_core.ValidationError] = load_core().ValidationError
    return error


def _choose_validator(name: str) -> Any:
    return compiled_validator(name) if is_compatible() else pydantic_validator(name)


@cache
def is_compatible() -> bool:
    """Return whether the compiled schema was generated with the minor version of the installed pydantic_core."""
    from ebbtide.core.readers import _compiled  # noqa: PLC0415 - slow to load

    version: str = load_core().__version__
    return version.rpartition(".")[0] == _compiled.CORE


def pydantic_validator(name: str) -> Any:
    """Return the validator that pydantic builds from the models."""
    from ebbtide.core.profile.models import Profile  # noqa: PLC0415 - importing the models is slow
    from ebbtide.core.spec.inference import Inference  # noqa: PLC0415 - as above

    return Inference.__pydantic_validator__ if name == "Inference" else Profile.__pydantic_validator__


def compiled_validator(name: str) -> Any:
    """Return the validator of the compiled schema."""
    from ebbtide.core.readers import _compiled  # noqa: PLC0415 - as above

    classes: dict[str, type] = {}

    def class_of(model: str) -> type:
        cls = classes.get(model)
        if cls is None:
            cls = classes[model] = type(model, (), {"__slots__": SLOTS, "__doc__": None})
        return cls

    def instance(model: str, **values: Any) -> Any:
        obj: Any = object.__new__(class_of(model))
        object.__setattr__(obj, "__dict__", values)
        object.__setattr__(obj, "__pydantic_fields_set__", set())
        object.__setattr__(obj, "__pydantic_extra__", None)
        object.__setattr__(obj, "__pydantic_private__", None)
        return obj

    return load_core().SchemaValidator(_compiled.schemas(class_of, instance)[name])
