"""Request bodies of Run:ai's paths.

Upstream: runai-professional-services/runapy .generator/swagger.json (1.224).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictStr

from ebbtide.server.api.requests import RequestModel, Text


class TokenRequest(BaseModel):
    """A service account and its token, in either format that Run:ai's clients send."""

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


class InferenceRequest(RequestModel):
    """The inference to create; ``spec`` is Run:ai's and is validated field by field."""

    name: Text
    use_given_name_as_prefix: Annotated[
        bool | None,
        # NVIDIA's first client misspells it.
        Field(validation_alias=AliasChoices("useGivenNameAsPrefix", "usGivenNameAsPrefix")),
    ] = None
    project_id: Text | Annotated[int, Field(ge=0, le=10**18)]
    cluster_id: Text
    template_id: str | None = None
    spec: dict[str, Any]


class WorkloadUpdate(RequestModel):
    """The fields of a spec to change; omitted fields keep their values."""

    spec: dict[str, Any]
