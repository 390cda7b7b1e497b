"""Events of the controller. They are a courtesy: without the right to create them, its work goes on."""

from __future__ import annotations

import logging
from typing import Final

from ebbtide.cluster.client.protocol import EVENT, Cluster, ClusterError, ExistsError
from ebbtide.cluster.read.inventory import format_timestamp
from ebbtide.core.translation.objects import Object

LOG: Final = logging.getLogger("ebbtide.cluster.controller")
#: Length to which a message is cut, as the API server requires of Events; a condition's may have 32,768 bytes.
MESSAGE_LENGTH: Final = 1024


def make_event(about: Object, name: str, kind: str, reason: str, message: str, now: float) -> Object:
    """Return an Event of type ``kind`` about an object; ``now`` is in seconds since 1970."""
    moment, metadata = format_timestamp(now), about["metadata"]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata.get("uid", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message[:MESSAGE_LENGTH],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": "ebbtide-controller"},
    }


def record_event(cluster: Cluster, event: Object) -> None:
    """Create an Event; one of the same name gets its message and time."""
    metadata = event["metadata"]
    try:
        try:
            cluster.create(event)
        except ExistsError:
            fields = ("type", "reason", "message", "lastTimestamp")
            cluster.patch(EVENT, metadata["name"], metadata["namespace"], {name: event[name] for name in fields})
    except ClusterError as error:
        LOG.warning("event of %s/%s: %s", metadata["namespace"], event["involvedObject"]["name"], error)
