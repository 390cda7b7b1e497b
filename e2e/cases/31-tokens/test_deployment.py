"""A Deployment of a model server becomes a spec with `ebbtide convert`, and the spec serves through the gateway."""

import asyncio

import httpx
import yaml

from e2e.completion import Completion, complete
from e2e.stage import Stage

NAME = "moved"
PROMPT, OUTPUT = 40, 8


def test_converted_deployment(stage: Stage) -> None:
    converted = stage.ebbtide(["convert", *stage.profile(), str(stage.folder / "deployment.yaml")])
    assert converted.returncode == 0, converted.stderr
    spec = yaml.safe_load(converted.stdout)
    assert (spec["kind"], spec["metadata"]["name"]) == ("Inference", NAME)
    # The suite's server stands for vLLM: it ignores the arguments, and listens on the port that Knative sets.
    spec["spec"]["image"] = "ebbtide.local/e2e/llm:v1"
    stage.deploy(spec)
    stage.ready(NAME)
    assert len(stage.pods(NAME, ready=True)) == 1, "the minimum is the number of replicas of the Deployment"

    async def talk() -> Completion:
        gateway, headers = f"http://{stage.provider.gateway()}", {"Host": stage.host(NAME)}
        async with httpx.AsyncClient(base_url=gateway, headers=headers, timeout=120) as client:
            return await complete(client, PROMPT, OUTPUT)

    answer = asyncio.run(talk())
    assert (answer.status, answer.output_tokens) == ("200", OUTPUT)
