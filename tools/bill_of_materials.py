"""Write the bill of materials of an environment with Ebbtide in it, as CycloneDX: Python packages and the page's libraries."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

LOCK: Final = Path(__file__).parent / "assets" / "package-lock.json"
MODULES: Final = "node_modules/"


def page_libraries() -> list[dict[str, Any]]:
    """Return the libraries that the wheel contains, with those that they import, from npm's lock file."""
    packages = json.loads(LOCK.read_text(encoding="utf-8"))["packages"]
    return [
        _component(name.removeprefix(MODULES), row)
        for name, row in packages.items()
        if name.startswith(MODULES) and not row.get("dev")
    ]


def _component(name: str, row: dict[str, Any]) -> dict[str, Any]:
    purl = f"pkg:npm/{name}@{row['version']}"
    algorithm, _, digest = row["integrity"].partition("-")
    return {
        "bom-ref": purl,
        "type": "library",
        "name": name,
        "version": row["version"],
        "purl": purl,
        "licenses": [{"license": {"id": row["license"]}}],
        "hashes": [{"alg": algorithm.upper().replace("SHA", "SHA-"), "content": base64.b64decode(digest).hex()}],
    }


def with_page(bill: dict[str, Any]) -> dict[str, Any]:
    """Return a bill of Python packages, with the page's libraries as components of Ebbtide."""
    libraries = page_libraries()
    names = [library["bom-ref"] for library in libraries]
    rows = [
        {**row, "dependsOn": [*row.get("dependsOn", []), *names]} if row["ref"].startswith("ebbtide==") else row
        for row in bill["dependencies"]
    ]
    return {
        **bill,
        "components": [*bill["components"], *libraries],
        "dependencies": [*rows, *({"ref": name} for name in names)],
    }


def write(python: Path, target: Path) -> list[str]:
    """Write the bill of the packages installed for ``python``, and return their names."""
    # Without --output-reproducible, because actions/attest requires a serial number. The bill is validated below.
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", str(python)]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    bill = with_page(json.loads(listed))
    text = json.dumps(bill, indent=2) + "\n"
    if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ValueError(f"the bill of materials is not CycloneDX: {wrong}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return [component["name"] for component in bill["components"]]
