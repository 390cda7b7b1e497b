"""A folder of Deployments of model servers becomes specs with one `ebbtide convert`, and each serves through the gateway."""

import asyncio

import httpx
import yaml

from e2e.completion import Completion, complete
from e2e.specs import POOL
from e2e.stage import Stage

#: Whole GPUs, which two of the Deployments have.
WHOLE = {"nodePools": [{**POOL, "devices": 8, "backend": "devices"}]}
NAMES = ["moved", "moved-scaled", "moved-tgi", "moved-triton", "moved-mirror"]
PROMPT, OUTPUT = 40, 8


def test_converted_deployments(stage: Stage) -> None:
    folder = str(stage.folder / "deployment.yaml")
    converted = stage.ebbtide(["convert", "--profile", "full", folder])
    assert converted.returncode == 0, converted.stderr
    checked = stage.ebbtide(["check", "--profile", "full", "-"], converted.stdout)
    assert (checked.returncode, "5 services translated, 0 errors, 0 warnings" in checked.stdout) == (0, True), checked
    specs = list(yaml.safe_load_all(stage.ebbtide(["convert", *stage.profile(WHOLE), folder]).stdout))
    assert [(spec["kind"], spec["metadata"]["name"]) for spec in specs] == [("Inference", name) for name in NAMES]
    for spec in specs:
        # The suite's server stands for the others: it ignores the arguments, and listens on the port that Knative sets.
        spec["spec"]["image"] = "ebbtide.local/e2e/llm:v1"
        spec["spec"].pop("command", None)
        # Four Services were reachable only from the cluster. This client is outside.
        spec["spec"]["servingPort"].pop("clusterLocalAccessOnly", None)
        stage.deploy(spec, profile=WHOLE)
    for name in NAMES:
        stage.ready(name)
        assert len(stage.pods(name, ready=True)) == 1, "the minimum is the number of replicas of the Deployment"

    async def talk() -> list[Completion]:
        async with httpx.AsyncClient(base_url=f"http://{stage.provider.gateway()}", timeout=120) as client:
            found = []
            for name in NAMES:
                client.headers["Host"] = stage.host(name)
                found.append(await complete(client, PROMPT, OUTPUT))
            return found

    answers = asyncio.run(talk())
    assert [(answer.status, answer.output_tokens) for answer in answers] == [("200", OUTPUT)] * len(NAMES)
