"""Events of a simulated cluster: repeated ones are counted, old ones expire."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from ebbtide.cluster.client.protocol import EVENT
from ebbtide.sandbox.metadata import bare, namespace_of
from ebbtide.sandbox.store import Key

if TYPE_CHECKING:
    from ebbtide.sandbox.state import State
    from ebbtide.translation.objects import Object

#: Seconds that events are kept (kube-apiserver --event-ttl).
TTL_SECONDS: Final = 3600.0


def note(state: State, about: Object, kind: str, reason: str, message: str) -> None:
    """Note an event of an object; the same one again is counted."""
    metadata, namespace = about["metadata"], namespace_of(about)
    known = (metadata["uid"], reason, message)
    before = state.peek(EVENT, namespace, state.event_names.get(known, ""))
    if before is not None:
        state.write(EVENT, {**before, "count": before["count"] + 1, "lastTimestamp": state.stamp()})
        return
    event = bare(EVENT, f"{metadata['name']}.{state.store.number():016x}", namespace)
    event |= {
        "type": kind,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": state.stamp(),
        "lastTimestamp": state.stamp(),
        "involvedObject": {
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": namespace,
            "uid": metadata["uid"],
        },
    }
    state.write(EVENT, event)
    state.event_names[known] = event["metadata"]["name"]
    state.later(TTL_SECONDS, lambda: _expire(state, known, namespace))


def _expire(state: State, known: tuple[str, str, str], namespace: str) -> None:
    name = state.event_names.get(known, "")
    event = state.peek(EVENT, namespace, name)
    if event is not None:
        last = datetime.fromisoformat(event["lastTimestamp"]).timestamp()
        left = last + TTL_SECONDS - state.now()
        if left > 1.0:
            state.later(left, lambda: _expire(state, known, namespace))
            return
        state.take_out(Key(EVENT, namespace, name))
    state.event_names.pop(known, None)
