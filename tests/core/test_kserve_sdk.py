"""KServe's Python SDK parses every rendered InferenceService and serializes it unchanged.

Its models are classes with tables of types and names; the Kubernetes models in them come from the Kubernetes
client. An unknown field raises an error (KServe's models) or is lost (Kubernetes' models), and the tests detect both.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import cases

if TYPE_CHECKING:
    from types import ModuleType

    from ebbtide.core.translation.objects import Object

CASES = [
    pytest.param(item, id=f"{folder.name}-{item['metadata']['name']}")
    for folder in cases.RENDERED
    for item in cases.make(folder).objects
    if item["kind"] == "InferenceService"
]
PLAIN: dict[str, type] = {"str": str, "int": int, "bool": bool, "float": float}


@dataclass(frozen=True)
class Sdk:
    """The models of KServe and of the Kubernetes client."""

    kserve: ModuleType
    kubernetes: ModuleType

    def read(self, data: Any, kind: str) -> Any:
        """Return the SDK's model of data. ``kind`` is a type in the notation of the SDK's tables."""
        if kind.startswith("list["):
            assert isinstance(data, list), (data, kind)
            return [self.read(item, kind[5:-1]) for item in data]
        if kind.startswith("dict("):
            assert isinstance(data, dict), (data, kind)
            return {key: self.read(item, kind[5:-1].partition(", ")[2]) for key, item in data.items()}
        if kind in PLAIN:
            assert type(data) is PLAIN[kind], (data, kind)
            return data
        # Some models are only in the package's subpackage.
        model = getattr(self.kserve, kind, None) or getattr(self.kserve.models, kind, None)
        if model is None:
            # The SDK writes some names of Kubernetes' models in full.
            return getattr(self.kubernetes, kind.removeprefix("K8sIoApiApps")).from_dict(data)
        names = {alias: name for name, alias in model.attribute_map.items()}
        return model(
            **{names[alias]: self.read(item, model.openapi_types[names[alias]]) for alias, item in data.items()}
        )

    def write(self, value: Any) -> Any:
        """Return a model as data, without unset fields."""
        if isinstance(value, list):
            return [self.write(item) for item in value]
        if isinstance(value, dict):
            return {key: self.write(item) for key, item in value.items()}
        if hasattr(value, "attribute_map"):
            rows = {alias: getattr(value, name) for name, alias in value.attribute_map.items()}
            # The SDK fills in an empty name for a model's container, and an empty directory for a storage URI.
            return {
                alias: self.write(item)
                for alias, item in rows.items()
                if item is not None and (alias, item) not in [("name", ""), ("mountPath", "")]
            }
        if hasattr(value, "model_dump"):
            return value.model_dump(by_alias=True, exclude_none=True)
        return value


def with_probe_ports(value: Any) -> Any:
    """Return the value with ports for HTTP probes: the client's model requires them, but KServe's CRD leaves them to Knative."""
    if isinstance(value, list):
        return [with_probe_ports(item) for item in value]
    if not isinstance(value, dict):
        return value
    filled = {key: with_probe_ports(item) for key, item in value.items()}
    if "httpGet" in filled:
        filled["httpGet"].setdefault("port", 8080)
    return filled


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    with warnings.catch_warnings():
        # Warnings at the import of the SDK and its dependencies are not Ebbtide's.
        warnings.simplefilter("ignore")
        kserve = pytest.importorskip("kserve", reason="the SDK is not installed: its metadata stops at Python 3.12")
        client = pytest.importorskip("kubernetes.client", reason="comes with the SDK")
    return Sdk(kserve, client)


@pytest.mark.parametrize("item", CASES)
def test_the_sdk_parses_and_serializes_every_rendered_service_unchanged(sdk: Sdk, item: Object) -> None:
    item = with_probe_ports(item)

    model = sdk.read(item, "V1beta1InferenceService")

    assert model.spec.predictor.max_replicas == item["spec"]["predictor"].get("maxReplicas")
    assert sdk.write(model) == item


def test_the_sdk_refuses_an_unknown_field(sdk: Sdk) -> None:
    (item,) = CASES[0].values
    assert isinstance(item, dict)
    spec = item["spec"]
    wrong = {**item, "spec": {**spec, "predictor": {**spec["predictor"], "minReplica": 1}}}

    with pytest.raises(KeyError, match="minReplica"):
        sdk.read(wrong, "V1beta1InferenceService")
