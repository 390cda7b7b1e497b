"""A model server as people write them with KServe's SDK, of a real trained model: it names a content's type of file.

The model is Magika's, an ONNX network of 3 MB. As a custom container it is in the image; under a ServingRuntime it is
read from where the storage initializer put it: `--model_dir /mnt/models --model_name X`.

    V1  {"instances": ["#!/bin/sh …", {"b64": "AAEC"}]} → {"predictions": [{"label": …, "mimeType": …, "score": …}, …]}
    V2  an input of datatype BYTES, one element a content → outputs label (BYTES) and score (FP32)
"""

# The SDK has no types, and the model's package is in the image alone.
# mypy: disable-error-code="import-untyped,import-not-found"

import argparse
import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.errors import InvalidInput
from magika import Magika
from magika.types import MagikaResult

PORT: Final = int(os.environ.get("PORT", "8080"))
"""Knative says in PORT where it will knock."""


class FileTypes(Model):  # type: ignore[misc]  # the SDK has no types
    """The model, under the name that requests use."""

    def __init__(self, name: str, folder: Path | None) -> None:
        super().__init__(name)
        self.folder = folder
        self.network: Magika | None = None

    def load(self) -> bool:
        """Read the model; without a folder, the one in the wheel."""
        self.network = Magika(model_dir=self.folder)
        self.ready = True
        return self.ready

    def predict(
        self,
        payload: Mapping[str, Any] | bytes | InferRequest,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002  # the SDK passes it by name
        response_headers: Mapping[str, str] | None = None,  # noqa: ARG002  # likewise
    ) -> dict[str, Any] | InferResponse:
        """Answer in the protocol of the request."""
        if isinstance(payload, InferRequest):
            results = [self._identify(content) for given in payload.inputs for content in contents(given)]
            shape = [len(results)]
            label = InferOutput("label", shape, "BYTES", [str(result.output.label) for result in results])
            score = InferOutput("score", shape, "FP32", [result.score for result in results])
            return InferResponse(payload.id, self.name, [label, score])
        return {"predictions": [described(self._identify(content(instance))) for instance in instances(payload)]}

    def _identify(self, content: bytes) -> MagikaResult:
        if self.network is None:
            raise RuntimeError("the model is asked before it is loaded")
        return self.network.identify_bytes(content)


def described(result: MagikaResult) -> dict[str, Any]:
    return {"label": str(result.output.label), "mimeType": result.output.mime_type, "score": result.score}


def instances(payload: Mapping[str, Any] | bytes) -> list[Any]:
    """Return the instances of a V1 request; the SDK hands over bytes where the client, as curl does, calls it a form.

    Raises:
        InvalidInput: it is not valid JSON, or has no instances.

    """
    try:
        given = json.loads(payload) if isinstance(payload, bytes) else payload
        found = given["instances"]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput('a request is JSON: {"instances": [text or {"b64": …}, …]}') from error
    if not isinstance(found, list):
        raise InvalidInput('"instances" is a list of texts, or of {"b64": …}')
    return found


def content(instance: Any) -> bytes:
    """Return the bytes of one V1 instance.

    Raises:
        InvalidInput: it is neither a text nor base64.

    """
    if isinstance(instance, str):
        return instance.encode()
    try:
        return base64.b64decode(instance["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error) as error:
        raise InvalidInput('an instance is a text, or {"b64": …}') from error


def contents(given: InferInput) -> list[bytes]:
    """Return the contents of one V2 input: text where it came as JSON, bytes where it came as bytes.

    Raises:
        InvalidInput: the input is not of BYTES.

    """
    if given.datatype != "BYTES":
        raise InvalidInput(f"input {given.name} is of {given.datatype}: contents are BYTES")
    return [each if isinstance(each, bytes) else str(each).encode() for each in given.as_numpy().flatten()]


def main() -> None:
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument(
        "--model_dir", type=Path, help="where model.onnx and its configuration lie; default: the wheel's"
    )
    # The SDK's own options are left to the SDK, which reads them when it is imported.
    arguments, _ = parser.parse_known_args()
    model = FileTypes(arguments.model_name, arguments.model_dir)
    model.load()
    given = arguments.http_port != parser.get_default("http_port")
    ModelServer(http_port=arguments.http_port if given else PORT).start([model])


if __name__ == "__main__":
    main()
