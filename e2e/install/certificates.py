"""Certificates of the aggregated APIs, so that the API server knows with whom it speaks."""

import base64
from pathlib import Path
from typing import Any

import trustme

from e2e.install.manifests import Object

MOUNT = "/serving-certificate"


def certify(folder: Path, api: Object, deployment: Object) -> Object:
    """Have a deployment serve with a certificate that its APIService trusts, and return the certificate's Secret.

    The certificate is kept in `folder`, so that another installation changes nothing.
    """
    service = api["spec"]["service"]
    place = folder / f"{service['name']}.pem"
    if not place.exists():
        authority = trustme.CA()
        issued = authority.issue_cert(f"{service['name']}.{service['namespace']}.svc")
        parts = (authority.cert_pem, issued.cert_chain_pems[0], issued.private_key_pem)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"".join(part.bytes() for part in parts))
    authority_pem, certificate, key = _parts(place.read_text())
    api["spec"].pop("insecureSkipTLSVerify", None)
    api["spec"]["caBundle"] = base64.b64encode(authority_pem.encode()).decode()
    secret = f"{service['name']}-serving"
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["args"] = [each for each in container["args"] if not each.startswith("--cert-dir")]
    container["args"] += [f"--tls-cert-file={MOUNT}/tls.crt", f"--tls-private-key-file={MOUNT}/tls.key"]
    container.setdefault("volumeMounts", []).append(
        {"name": "serving-certificate", "mountPath": MOUNT, "readOnly": True}
    )
    pod.setdefault("volumes", []).append({"name": "serving-certificate", "secret": {"secretName": secret}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": secret, "namespace": service["namespace"]},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    }


def _parts(text: str) -> list[str]:
    """Split a file of PEM blocks."""
    end = "-----END "
    blocks = text.split("-----BEGIN ")[1:]
    assert all(end in block for block in blocks)
    return [f"-----BEGIN {block}" for block in blocks]
