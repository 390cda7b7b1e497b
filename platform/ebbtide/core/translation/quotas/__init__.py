"""The registry of quota backends: how a cluster enforces the quota of a project.

To add a backend, add a file with a ``BACKEND``, a row in ``QUOTA_BACKENDS``, its name in ``projects.quota`` of the
profile's model, and a golden case.
"""

from __future__ import annotations

from typing import Final

from ebbtide.core.translation.quotas import kai, kueue, resourcequota
from ebbtide.core.translation.quotas.backend import QuotaBackend

#: The backends by name, in the order in which they are offered.
QUOTA_BACKENDS: Final[dict[str, QuotaBackend]] = {
    backend.name: backend
    for backend in (
        QuotaBackend(about="No quota.", name="none", objects=lambda _: ()),
        resourcequota.BACKEND,
        kai.BACKEND,
        kueue.BACKEND,
    )
}
