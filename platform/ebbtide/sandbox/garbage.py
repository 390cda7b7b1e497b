"""Removal of objects with all that they own, as Kubernetes' garbage collector does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebbtide.cluster.client.protocol import DEPLOYMENT, POD, REVISION
from ebbtide.sandbox import kubelet
from ebbtide.sandbox.store import Key

if TYPE_CHECKING:
    from ebbtide.cluster.client.protocol import Kind
    from ebbtide.sandbox.state import State


def remove(state: State, kind: Kind, namespace: str, name: str) -> None:
    """Remove an object and what it owns; its pods leave in their time."""
    if kind == POD:
        kubelet.drop(state, (namespace, name))
        return
    if kind == REVISION and state.driver is not None:
        state.driver.revision_gone(namespace, name)
    held = state.take_out(Key(kind, namespace, name))
    if held is None:
        return
    uid = held.item["metadata"]["uid"]
    for key in state.store.owned_by(uid):
        if key.kind == POD:
            kubelet.leave(state, (key.namespace, key.name))
        else:
            remove(state, *key)
    state.store.disown(uid)
    if kind == DEPLOYMENT:
        for refused in kubelet.refused_of(state, held.item):
            kubelet.give_up(state, refused)
