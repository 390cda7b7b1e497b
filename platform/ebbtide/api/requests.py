"""The bodies of requests, as they are read and described; those of answers are in ``answers``.

Upstream of Run:ai's: runai-professional-services/runapy .generator/swagger.json (1.224).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictStr
from pydantic.alias_generators import to_camel

Text = Annotated[StrictStr, Field(min_length=1)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=253)]


class Shape(BaseModel):
    """A body of ours: camel case, nothing unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


# Our own.


class Spec(Shape):
    """One or more specs, in any input shape, as YAML or JSON text."""

    spec: Annotated[Text, Field(max_length=1_000_000)]


class Explain(Spec):
    """Specs to explain; ``field`` leaves only output fields whose path contains it."""

    field: Annotated[str, Field(max_length=500)] = ""


class Apply(Spec):
    """Specs to apply."""

    #: Take fields over that other field managers own.
    force: bool = False
    #: They must not be there yet.
    create: bool = False


class Scale(Shape):
    """A live scale; nothing given puts it back to what the spec says."""

    min_replicas: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    max_replicas: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metric_threshold: Annotated[float, Field(gt=0, le=1e9)] | None = None


class Rollback(Shape):
    """Which revision to go back to; without one, the ready one before."""

    to: Name | None = None


class Diagnose(Shape):
    """Specs to examine the cluster for; without any, the cluster alone."""

    spec: Annotated[Text, Field(max_length=1_000_000)] | None = None


class Simulate(Shape):
    """A spec under traffic. Texts are as ``ebbtide simulate`` takes them; ``log`` is a log's text instead of a shape."""

    spec: Annotated[Text, Field(max_length=200_000)]
    traffic: Annotated[str, Field(max_length=2_000)] = ""
    log: Annotated[str, Field(max_length=1_000_000)] = ""
    server: Annotated[str, Field(max_length=500)] = ""
    start_up: Annotated[str, Field(max_length=200)] = "45s"
    slo: Annotated[str, Field(max_length=200)] = ""
    cost: Annotated[str, Field(max_length=50)] = ""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    settings: dict[str, int | float | str | None] = Field(default={}, max_length=20)


class Tune(Simulate):
    """A search for settings."""

    keep: Annotated[list[str], Field(max_length=10)] = []
    evaluations: Annotated[int, Field(ge=1, le=400)] = 200
    part: Annotated[float, Field(gt=0, le=1)] = 0.5


# Run:ai's.


class TokenRequest(BaseModel):
    """A service account and its token, in either of the forms that clients send."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    grant_type: Annotated[Literal["app_token", "client_credentials"], Field(alias="grantType")]
    client_id: Annotated[
        Annotated[StrictStr, Field(min_length=1, max_length=500)] | None,
        Field(validation_alias=AliasChoices("clientId", "clientID", "AppId", "appID", "appId")),
    ] = None
    client_secret: Annotated[
        Annotated[StrictStr, Field(min_length=1, max_length=16_000)] | None,
        Field(validation_alias=AliasChoices("clientSecret", "AppSecret", "appSecret"), repr=False),
    ] = None


class InferenceRequest(Shape):
    """An inference to create; ``spec`` is Run:ai's, whose rules are checked field by field."""

    name: Text
    use_given_name_as_prefix: bool | None = None
    project_id: Text
    cluster_id: Text
    template_id: str | None = None
    spec: dict[str, Any]


class InferenceUpdate(Shape):
    """What to change of an inference's spec; what is not given stays."""

    spec: dict[str, Any]
