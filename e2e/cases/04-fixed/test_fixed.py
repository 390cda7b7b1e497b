"""A fixed number of replicas, in the namespace that `kubectl apply -n` names: the spec has neither project nor namespace.

Seen: ready means that all are; load brings no more; without a request for longer than it takes to go to zero, none go.
"""

from e2e.load import in_flight
from e2e.stage import Stage

TO_ZERO = 20 + 10
"""Seconds: the profile's stable window and grace period, after which an idle service that may rest has no pod."""
MANY = 200
"""Requests in flight. Knative's default target of 100 per replica, at 70% utilization, would give three replicas."""


def test_fixed(stage: Stage) -> None:
    spec = (stage.folder / "spec.yaml").read_text()
    rendered = stage.ebbtide(["render", "-", *stage.profile()], spec)
    assert rendered.returncode == 0, rendered.stderr
    assert "namespace:" not in rendered.stdout
    place = ["-n", stage.namespace]
    stage.kubectl.run("create", "namespace", stage.namespace)
    stage.kubectl.run("apply", *place, "-f", "-", stdin=rendered.stdout)
    stage.ready("chat")
    same = stage.ebbtide(["diff", "-", *place, *stage.profile(), f"--kubeconfig={stage.kubectl.kubeconfig}"], spec)
    assert same.returncode == 0, same.stdout + same.stderr
    assert len(stage.pods("chat", ready=True)) == 2

    def two() -> bool:
        return len(stage.pods("chat")) == 2

    with in_flight(stage.provider.gateway(), stage.host("chat"), "/?sleep=3s", requests=MANY) as load:
        stage.until("the load runs", lambda: load.answered >= MANY)
        stage.holds_for("load brings no third", two, 8)
    assert load.lost == 0, load.outcomes
    stage.holds_for("both stay without a request", two, TO_ZERO + 5)
    stage.report(answered=load.answered)
