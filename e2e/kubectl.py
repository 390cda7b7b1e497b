"""The real kubectl, against one cluster."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Manifest = Mapping[str, Any]


class KubectlError(Exception):
    """Raised if kubectl fails; the message is its stderr."""


@dataclass(frozen=True)
class Kubectl:
    """A kubectl that knows its cluster: an ambient KUBECONFIG is never read."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
        """Run kubectl and return its output.

        Raises:
            KubectlError: it ended with an error.

        """
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, check=False, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifests: Iterable[Manifest], *options: str) -> str:
        """Apply server-side, in the order given; the CRDs of KServe exceed what client-side apply can annotate.

        The API server rejects unknown fields of what is applied to it, so kubectl does not validate: that takes 0.4 seconds of
        processor time for the schemas.
        """
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return self.run(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=ebbtide-e2e",
            "--validate=ignore",
            *options,
            "-f",
            "-",
            stdin=text,
        )

    def get(self, *arguments: str) -> Any:
        """Return one object or a list as data."""
        return json.loads(self.run("get", *arguments, "-o", "json"))
