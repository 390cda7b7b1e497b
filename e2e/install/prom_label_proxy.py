"""prom-label-proxy as kustomize/prom-label-proxy has it, in front of the suite's Prometheus."""

from collections.abc import Callable
from typing import Final

from e2e.install import metrics
from e2e.install.manifests import fit, namespace, parse
from e2e.kubectl import Kubectl
from e2e.paths import ROOT

NAMESPACE: Final = "ebbtide-controller"
NAME: Final = "prom-label-proxy"
PORT: Final = 9090
URL: Final = f"http://{NAME}.{NAMESPACE}.svc:{PORT}"
UPSTREAM: Final = "-upstream="


def install(kubectl: Kubectl, image: Callable[[str], str]) -> None:
    """Apply the proxy, and wait until it answers; running it again changes nothing.

    Raises:
        KubectlError: the API server refused an object, or the proxy did not start.

    """
    objects = parse(kubectl.run("kustomize", str(ROOT / "kustomize" / NAME)))
    for item in objects:
        if item["kind"] == "Deployment":
            item["spec"]["replicas"] = 1
            arguments = item["spec"]["template"]["spec"]["containers"][0]["args"]
            upstream = f"{UPSTREAM}http://prometheus.{metrics.NAMESPACE}.svc:{metrics.PORT}"
            arguments[:] = [upstream if text.startswith(UPSTREAM) else text for text in arguments]
    # The controller of the suite runs outside of the cluster and connects through the API server.
    kubectl.apply([namespace(NAMESPACE), *fit((item for item in objects if item["kind"] != "NetworkPolicy"), image)])
    available = ("--for=condition=Available", "-n", NAMESPACE, "--timeout=180s")
    kubectl.run("wait", f"deployment/{NAME}", *available, timeout=200)
