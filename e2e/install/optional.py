"""Components that only some cases want: what installs each, and the servers of ours that it needs."""

from collections.abc import Callable, Mapping
from typing import Final

from e2e.install import dra, envoy_gateway, kai, kueue, prom_label_proxy
from e2e.kubectl import Kubectl

INSTALLERS: Final[Mapping[str, Callable[[Kubectl, Callable[[str], str]], None]]] = {
    "dra": dra.install,
    "envoy-gateway": envoy_gateway.install,
    "kai": kai.install,
    "kueue": kueue.install,
    "prom-label-proxy": prom_label_proxy.install,
}
SERVERS: Final[Mapping[str, tuple[str, ...]]] = {
    "dra": (),
    "envoy-gateway": (),
    "kai": ("reservation",),
    "kueue": (),
    "prom-label-proxy": (),
}
