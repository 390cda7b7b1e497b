"""Request bodies; each class declares the parsing rules and the OpenAPI schema. Response bodies are in ``answers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr, create_model
from pydantic.alias_generators import to_camel

from ebbtide.core.base.operations import Operation, Parameter
from ebbtide.simulator.search.judge import SPARE

Text = Annotated[StrictStr, Field(min_length=1)]


class RequestModel(BaseModel):
    """Base of request bodies: camel-case keys, unknown keys rejected."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Spec(RequestModel):
    """One or more specs, in any input format, as YAML or JSON text."""

    spec: Annotated[Text, Field(max_length=1_000_000, description="One or more specs, as YAML or JSON text.")]


class Explain(Spec):
    """The specs to explain. ``field`` limits the result to output fields whose path contains it."""

    field: Annotated[
        str, Field(max_length=500, description="Explain only output fields whose path contains this text.")
    ] = ""


class Apply(Spec):
    """The specs to apply."""

    force: Annotated[bool, Field(description="Take over fields that other field managers own.")] = False
    create: Annotated[bool, Field(description="Fail with 409 if a workload already exists.")] = False


def make_reader(operation: Operation) -> Callable[..., dict[str, Any]]:
    """Return a dependency that reads the parameters of an operation on a workload; a body contains those that are set."""
    fields: dict[str, Any] = {
        parameter.name: (Annotated[_make_type(parameter) | None, Field(description=f"{parameter.help}.")], None)
        for parameter in operation.parameters
    }

    def read_nothing() -> dict[str, Any]:
        return {}

    def read(body: RequestModel) -> dict[str, Any]:
        return body.model_dump(exclude_none=True)

    if not fields:
        return read_nothing
    name = operation.name.capitalize()
    read.__annotations__["body"] = create_model(name, __base__=RequestModel, __doc__=operation.request, **fields)
    return read


def _make_type(parameter: Parameter) -> Any:
    if parameter.kind is str:
        return Annotated[StrictStr, Field(min_length=1, max_length=parameter.maximum)]
    if parameter.is_fraction:
        return Annotated[float, Field(gt=parameter.minimum, le=parameter.maximum)]
    return Annotated[int, Field(ge=parameter.minimum, le=parameter.maximum)]


class Diagnose(RequestModel):
    """The specs to diagnose the cluster for; without specs, the cluster is diagnosed against its profile."""

    spec: Annotated[
        Annotated[Text, Field(max_length=1_000_000)] | None,
        Field(description="Specs to diagnose the cluster for, as YAML or JSON text."),
    ] = None


class CostPeriod(RequestModel):
    """The workloads and the period of a cost report."""

    namespace: Annotated[str, Field(max_length=63, description="Limit the report to one namespace.")] = ""
    project: Annotated[str, Field(max_length=63, description="Limit the report to one project.")] = ""
    days: Annotated[float, Field(ge=0.01, le=31, description="Days of requests to replay.")] = 7.0
    spare: Annotated[
        float, Field(ge=0, le=1, description="Share of the SLO's allowance that a change leaves unused.")
    ] = SPARE


class SimulationCase(RequestModel):
    """A spec and its traffic, in the syntax of ``ebbtide simulate``."""

    spec: Annotated[Text, Field(max_length=200_000, description="One spec, as YAML or JSON text.")]
    traffic: Annotated[
        str,
        Field(max_length=2_000, description="Traffic shape, such as poisson:2rps,1h; with `log`, the log's file name."),
    ] = ""
    log: Annotated[str, Field(max_length=1_000_000, description="Text of a request log, instead of a shape.")] = ""
    server: Annotated[
        str, Field(max_length=500, description="Model of the server, such as lognormal:median=500ms,sigma=0.5,max=16.")
    ] = ""
    start_up: Annotated[
        str, Field(max_length=200, description="Start-up time of a replica, such as 45s or pull=20s,load=20s.")
    ] = "45s"
    slo: Annotated[
        str, Field(max_length=200, description="SLO, such as p95=2s or mean=800ms,uptime=99.9; by default, the spec's.")
    ] = ""
    cost: Annotated[str, Field(max_length=50, description="Price of a GPU, such as gpu-hour=2.5.")] = ""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of the random numbers.")] = 0
    settings: dict[str, int | float | str | None] = Field(
        default={},
        max_length=20,
        description="Alternative fields of spec.autoscaling, simulated in addition to the spec; null removes a field.",
    )


class Tune(SimulationCase):
    """A search for settings that meet the SLO."""

    keep: Annotated[
        list[str], Field(max_length=10, description="Fields of spec.autoscaling that the search must not change.")
    ] = []
    evaluations: Annotated[int, Field(ge=1, le=400, description="Maximum number of evaluated settings.")] = 200
    part: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Fraction of the traffic, from its start, to search on; the rest evaluates the result.",
        ),
    ] = 0.5
