"""The node's programs and their configuration: what a distribution's packages would set up."""

import json
from pathlib import Path
from typing import Any

from e2e.build import program
from e2e.local.layout import DNS_SERVICE, NODE, SERVICES, Layout

PAUSE = "ebbtide.local/pause:v1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def commands(layout: Layout, files: Path) -> dict[str, list[str]]:
    """Return the node's programs by name, each as a command; `files` holds certificates and configuration."""
    pki = files / "pki"
    etcd = f"http://{layout.node_address}:2379"
    return {
        "etcd": [
            str(program("etcd")),
            f"--data-dir={layout.state}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://{layout.node_address}:2380",
            # A test cluster may lose its state with the machine's power.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ],
        "kube-apiserver": [
            str(program("kubernetes", "kube-apiserver")),
            f"--etcd-servers={etcd}",
            f"--bind-address={layout.node_address}",
            # Pods reach the server through the Service `kubernetes`, whose endpoint this address becomes.
            f"--advertise-address={layout.node_address}",
            "--secure-port=6443",
            "--allow-privileged",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={SERVICES}",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki}/service-accounts.crt",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            # Aggregated APIs (custom.metrics.k8s.io) believe the server's word about who calls.
            f"--requestheader-client-ca-file={pki}/ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki}/front-proxy.crt",
            f"--proxy-client-key-file={pki}/front-proxy.key",
            "--enable-aggregator-routing",
            "--profiling=false",
            "--shutdown-delay-duration=0s",
        ],
        "kube-controller-manager": [
            str(program("kubernetes", "kube-controller-manager")),
            f"--kubeconfig={pki}/controller-manager.kubeconfig",
            f"--authentication-kubeconfig={pki}/controller-manager.kubeconfig",
            f"--authorization-kubeconfig={pki}/controller-manager.kubeconfig",
            "--bind-address=127.0.0.1",
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/service-accounts.key",
            "--use-service-account-credentials",
            "--leader-elect=false",
            # At the default of 20 per second, the removal of the objects of two hundred services would take minutes.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            f"--cluster-cidr={layout.pods}",
            f"--service-cluster-ip-range={SERVICES}",
        ],
        "kube-scheduler": [
            str(program("kubernetes", "kube-scheduler")),
            f"--kubeconfig={pki}/scheduler.kubeconfig",
            f"--authentication-kubeconfig={pki}/scheduler.kubeconfig",
            f"--authorization-kubeconfig={pki}/scheduler.kubeconfig",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
        "containerd": ["containerd", f"--config={files}/containerd.toml"],
        "kubelet": [
            str(program("kubernetes", "kubelet")),
            f"--config={files}/kubelet.json",
            f"--kubeconfig={pki}/kubelet.kubeconfig",
            f"--hostname-override={NODE}",
            f"--node-ip={layout.node_address}",
        ],
        "kube-proxy": [
            str(program("kubernetes", "kube-proxy")),
            f"--config={files}/kube-proxy.json",
            f"--hostname-override={NODE}",
        ],
    }


def configuration(layout: Layout, files: Path, *, cgroup_v1: bool) -> dict[str, str]:
    """Return the configuration files of the node's programs, by their name under `files`."""
    return {
        "containerd.toml": CONTAINERD.format(files=files, pause=PAUSE, socket=CONTAINERD_SOCKET),
        "cni/10-ebbtide.conflist": json.dumps(_cni(layout)),
        "resolv.conf": "",
        "kubelet.json": json.dumps(_kubelet(layout, files, cgroup_v1=cgroup_v1)),
        "kube-proxy.json": json.dumps(_kube_proxy(layout, files)),
    }


CONTAINERD = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  # A pod's first process may not lower its score where this machine is itself a sandbox.
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{files}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def _cni(layout: Layout) -> dict[str, Any]:
    return {
        "cniVersion": "0.4.0",
        "name": "ebbtide",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                # A pod may call the Service that it stands behind.
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": layout.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet(layout: Layout, files: Path, *, cgroup_v1: bool) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{files}/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{files}/pki/kubelet.crt",
        "tlsPrivateKeyFile": f"{files}/pki/kubelet.key",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{files}/resolv.conf",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": layout.cgroup,
        **({"failCgroupV1": False} if cgroup_v1 else {}),
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "maxPods": 250,
        "registerNode": True,
        "serializeImagePulls": False,
        # The disk is the machine's, and no registry could restore a collected image.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "shutdownGracePeriod": "0s",
        "nodeStatusUpdateFrequency": "5s",
    }


def _kube_proxy(layout: Layout, files: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": layout.node_address,
        "clusterCIDR": layout.pods,
        "clientConnection": {"kubeconfig": f"{files}/pki/proxy.kubeconfig"},
        # The limits of connection tracking are the machine's, and cannot be set from a namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms"},
        "nodePortAddresses": ["primary"],
    }
