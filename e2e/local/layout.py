"""Addresses and places of one local cluster, all made from its name's number."""

from dataclasses import dataclass
from pathlib import Path

from e2e import paths

SERVICES = "10.96.0.0/16"
"""Only ever seen inside the cluster's own network namespace, so that two clusters can have the same."""
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
NODE = "ebbtide-node"
GATEWAY_PORT = 30080
PROMETHEUS_PORT = 30090


@dataclass(frozen=True)
class Layout:
    """Paths and addresses of one cluster; `number` (0 to 63) keeps them apart from those of other clusters."""

    name: str
    number: int

    @property
    def state(self) -> Path:
        return paths.state(self.name)

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def link(self) -> str:
        """The link's name on the host, at most 15 letters long."""
        return f"ebbtide{self.number}"

    @property
    def node_address(self) -> str:
        return f"10.200.{self.number}.1"

    @property
    def host_address(self) -> str:
        return f"10.200.{self.number}.254"

    @property
    def pods(self) -> str:
        """The pods' network: 1,022 addresses."""
        return f"10.201.{4 * self.number}.0/22"

    @property
    def cgroup(self) -> str:
        """Control group, named by number, since two checkouts may each have a cluster of one name."""
        return f"/ebbtide-e2e-{self.number}"

    @property
    def api(self) -> str:
        return f"https://{self.node_address}:6443"
