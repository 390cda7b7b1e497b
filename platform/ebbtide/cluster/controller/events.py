"""Events of the controller. They are a courtesy: without the right to create them, its work goes on."""

from __future__ import annotations

import logging
from typing import Final

from ebbtide.cluster.client.protocol import EVENT, Cluster, ClusterError
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.core.translation.objects import Object

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: Length to which a message is cut, as the API server requires of Events; a condition's may have 32,768 bytes.
MESSAGE_LENGTH: Final = 1024


def record_event(cluster: Cluster, about: Object, kind: str, reason: str, message: str, now: float) -> None:
    """Create an Event of type ``kind`` about an object; ``now`` is in seconds since 1970."""
    moment, metadata = format_timestamp(now), about["metadata"]
    place = {"name": metadata["name"], "namespace": metadata["namespace"]}
    event = {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {**place, "name": f"{metadata['name']}.{int(now * 1000):x}"},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "uid": metadata.get("uid", ""),
            **place,
        },
        "type": kind,
        "reason": reason,
        "message": message[:MESSAGE_LENGTH],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": "ebbtide-controller"},
    }
    try:
        cluster.create(event)
    except ClusterError as error:
        LOG.warning("event of %s/%s: %s", metadata["namespace"], metadata["name"], error)
