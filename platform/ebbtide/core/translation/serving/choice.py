"""The choice of the serving object's kind."""

from __future__ import annotations

from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.plan import Decision, Plan, Serving


def choose(plan: Plan) -> tuple[Serving, Decision]:
    """Return the kind of object. ``auto`` is KServe for a model, KServe Standard for a resource claim, else Knative."""
    serving = plan.spec.serving or "auto"
    fields = ("spec.serving",)
    if serving != "auto":
        return serving, Decision("serving", serving, "the spec sets it", fields)
    claims = BACKENDS[plan.pool.backend].claims if plan.gpu is not None and plan.pool is not None else None
    if claims is not None and claims.needed(plan.cluster):
        return "kserve-standard", Decision(
            "serving",
            "kserve-standard",
            "the GPU is allocated by a resource claim, which a Knative revision does not support",
            ("spec.compute", "profile.nodePools"),
        )
    if plan.spec.model is not None:
        return "kserve", Decision("serving", "kserve", "a model is served by a KServe serving runtime", ("spec.model",))
    return "knative", Decision("serving", "knative", "an image without a model needs only Knative", ("spec.image",))
