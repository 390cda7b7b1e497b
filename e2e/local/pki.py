"""Certificates and kubeconfigs of a local cluster. `trustme` makes them; Kubernetes reads the user from the subject."""

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import trustme

from e2e.local.layout import API_SERVICE, NODE, Layout

MASTERS = "system:masters"


def write(layout: Layout, folder: Path) -> None:
    """Write the authority, every certificate and every kubeconfig that the node needs."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="ebbtide e2e")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    names = ["localhost", "127.0.0.1", layout.node_address, API_SERVICE, "kubernetes", "kubernetes.default.svc", NODE]
    _issue(authority, folder, "apiserver", "kube-apiserver", "ebbtide", names)
    _issue(authority, folder, "service-accounts", "service-accounts", "ebbtide", ())
    _issue(authority, folder, "front-proxy", "front-proxy-client", "ebbtide", ())
    _issue(authority, folder, "apiserver-kubelet", "kube-apiserver-kubelet", MASTERS, ())
    # Server and client in one: the API server dials the kubelet by its address.
    _issue(authority, folder, "kubelet", f"system:node:{NODE}", "system:nodes", [NODE, layout.node_address])
    for user, common, organisation in (
        ("admin", "ebbtide-admin", MASTERS),
        ("controller-manager", "system:kube-controller-manager", "system:kube-controller-manager"),
        ("scheduler", "system:kube-scheduler", "system:kube-scheduler"),
        ("proxy", "system:kube-proxy", "system:node-proxier"),
    ):
        _issue(authority, folder, user, common, organisation, ())
    for user in ("admin", "controller-manager", "scheduler", "proxy", "kubelet"):
        kubeconfig(layout, folder, user, folder / f"{user}.kubeconfig")


def kubeconfig(layout: Layout, folder: Path, user: str, target: Path) -> None:
    """Write a kubeconfig that holds its certificates, so that the file can be taken elsewhere."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": layout.name,
        "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": user}}],
        "clusters": [
            {
                "name": layout.name,
                "cluster": {"server": layout.api, "certificate-authority-data": _base64(folder / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(folder / f"{user}.crt"),
                    "client-key-data": _base64(folder / f"{user}.key"),
                },
            }
        ],
    }
    target.touch(mode=0o600)
    target.write_text(json.dumps(content, indent=1))


def _issue(
    authority: trustme.CA, folder: Path, file: str, common: str, organisation: str, names: Sequence[str]
) -> None:
    # A name in every one: an empty list of names would be an extension that Go refuses.
    certificate = authority.issue_cert(*(names or ["localhost"]), common_name=common, organization_name=organisation)
    (folder / f"{file}.key").touch(mode=0o600)
    certificate.private_key_pem.write_to_path(folder / f"{file}.key")
    (folder / f"{file}.crt").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()
