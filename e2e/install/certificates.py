"""Certificates of aggregated APIs and of webhooks, so that the API server knows with whom it speaks."""

import base64
from pathlib import Path
from typing import Any

import trustme

from e2e.install.manifests import Object

MOUNT = "/serving-certificate"


def issue(folder: Path, service: str, namespace: str, secret: str) -> tuple[str, Object]:
    """Return the `caBundle` that trusts a service's certificate, and the Secret with it.

    The certificate is kept in `folder`, so that another installation changes nothing.
    """
    place = folder / f"{service}.pem"
    if not place.exists():
        authority = trustme.CA(organization_name="ebbtide e2e")
        issued = authority.issue_cert(f"{service}.{namespace}.svc")
        parts = (authority.cert_pem, issued.cert_chain_pems[0], issued.private_key_pem)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"".join(part.bytes() for part in parts))
    authority_pem, certificate, key = _parts(place.read_text())
    return base64.b64encode(authority_pem.encode()).decode(), {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": secret, "namespace": namespace},
        "stringData": {"tls.crt": certificate, "tls.key": key},
    }


def certify(folder: Path, api: Object, deployment: Object) -> Object:
    """Have a deployment serve with a certificate that its APIService trusts, and return the certificate's Secret."""
    service = api["spec"]["service"]
    secret = f"{service['name']}-serving"
    bundle, found = issue(folder, service["name"], service["namespace"], secret)
    api["spec"].pop("insecureSkipTLSVerify", None)
    api["spec"]["caBundle"] = bundle
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["args"] = [each for each in container["args"] if not each.startswith("--cert-dir")]
    container["args"] += [f"--tls-cert-file={MOUNT}/tls.crt", f"--tls-private-key-file={MOUNT}/tls.key"]
    container.setdefault("volumeMounts", []).append(
        {"name": "serving-certificate", "mountPath": MOUNT, "readOnly": True}
    )
    pod.setdefault("volumes", []).append({"name": "serving-certificate", "secret": {"secretName": secret}})
    return found


def _parts(text: str) -> list[str]:
    """Split a file of PEM blocks."""
    end = "-----END "
    blocks = text.split("-----BEGIN ")[1:]
    assert all(end in block for block in blocks)
    return [f"-----BEGIN {block}" for block in blocks]
