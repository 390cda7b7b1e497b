"""Read a Knative Service from stdin, translate it to a spec, and print the Service that the spec renders.

The exit code is 1 with the problems on stderr if Ebbtide refuses the Service or the spec.
"""

import json
import os
import subprocess
import sys

import yaml

from e2e.stage import PROFILE

DEFAULTS = "EBBTIDE_CONFORMANCE_DEFAULTS"
"""Variable that is set to render the spec with Ebbtide's defaults instead of only what the Service sets."""


def main() -> int:
    spec = yaml.safe_load(ebbtide(sys.stdin.read(), "convert", "--to=native"))
    if os.environ.get(DEFAULTS):
        del spec["spec"]["defaults"]
    rendered = json.loads(ebbtide(yaml.safe_dump(spec), "render", f"--profile={PROFILE}", "--output=json"))
    (service,) = (item for item in rendered["items"] if item["kind"] == "Service")
    json.dump(service, sys.stdout)
    return 0


def ebbtide(text: str, *arguments: str) -> str:
    """Run a command on a document and return its output. Errors end the program with the command's exit code."""
    command = [sys.executable, "-m", "ebbtide", *arguments, "-"]
    done = subprocess.run(command, input=text, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
