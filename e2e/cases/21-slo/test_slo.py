"""`ebbtide slo` on a load that the client knows completely: a cold start, and requests of 170 ms each.

The client's times have the way to the gateway in them, so the gateway's are no longer than those, and no shorter than what
the server sleeps: nothing else is asserted of a time. Counts are exact.
"""

import math
import statistics
from secrets import token_hex
from typing import Any

import yaml

from e2e.contract import held
from e2e.load import in_flight
from e2e.stage import Stage

NAME = f"answer-{token_hex(2)}"
"""A run shortly after another must not find the other's requests."""
LATENCY = 0.17
START_DELAY = 3.0
MEAN_LIMIT = 0.5
REQUESTS = 60
SLOW = 300
"""Seconds: scrapes come every 15 s, rules are looked at each minute, the operator takes its time with both."""
RESTS = 'sum(kn_revision_pods_requested{{k8s_namespace_name="{namespace}",kn_service_name="{name}"}})'
COUNTED = 'envoy_cluster_upstream_rq_xx{{envoy_cluster_name=~"{namespace}/{name}-.*"}}'
TIMED = 'envoy_cluster_upstream_rq_time_count{{envoy_cluster_name=~"{namespace}/{name}-.*"}}'
FIRING = 'ALERTS{{alertname="EbbtideBudgetBurns",namespace="{namespace}",workload="{name}",alertstate="firing"}}'


def test_slo(stage: Stage) -> None:
    stage.deploy(spec(stage))
    stage.ready(NAME)
    host = stage.host(NAME)
    stage.until("the autoscaler's zero has been scraped", lambda: values(stage, RESTS) == [0.0], SLOW)
    # Knative asks a new route once by each of its names, through the gateway, which counts that as well.
    names = sum(len(rule["hosts"]) for rule in stage.get("kingress", NAME)["spec"]["rules"])
    stage.until("Knative's own probes have been scraped", lambda: sum(values(stage, COUNTED)) >= names, SLOW)
    stage.until("the report knows that it never woke", lambda: stage.slo(NAME)["coldStarts"] == 0, SLOW)
    before = stage.slo(NAME)

    with in_flight(stage.provider.gateway(), host, requests=1) as cold:
        stage.until("the first request is answered", lambda: sum(cold.outcomes.values()) >= 1)
    with in_flight(stage.provider.gateway(), host, requests=4) as warm:
        stage.until("there were enough", lambda: warm.answered >= REQUESTS)
    assert (cold.lost, warm.lost) == (0, 0), (cold.outcomes, warm.outcomes)
    times = sorted(cold.latencies + warm.latencies)
    assert times[-1] > START_DELAY

    seen = stage.until(
        "every request has been scraped",
        lambda: stage.slo(NAME)["requests"] == before["requests"] + len(times),
        SLOW,
        seen=lambda: (before["requests"], len(times), stage.slo(NAME)["requests"], values(stage, COUNTED)),
    )
    # Envoy updates its counters immediately, and its histograms every five seconds: a scrape in between sees only the counters.
    stage.until("every time has been scraped", lambda: sum(values(stage, TIMED)) >= sum(values(stage, COUNTED)), SLOW)
    # The autoscaler is scraped at other moments than the gateway; where that is while the pod starts, the cold start is counted
    # one scrape before the pod.
    stage.until("the cold start has been scraped", lambda: stage.slo(NAME)["coldStarts"], SLOW)
    stage.until("its pod has been scraped", lambda: stage.slo(NAME)["replicaHours"], SLOW)
    told = stage.slo(NAME)
    assert told["measuredAt"] == "gateway"
    assert told["failed"] == 0
    assert (before["coldStarts"], told["coldStarts"]) == (0, 1)
    latency = told["latencySeconds"]
    mean = statistics.fmean(times)
    assert latency["mean"]["low"] <= mean
    assert latency["mean"]["high"] * told["requests"] >= LATENCY * len(times) + START_DELAY
    # A share of requests that took at most a time at the client took at most that time at the gateway.
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        client = times[math.ceil(share * len(times)) - 1]
        assert latency[name]["low"] <= client, (name, latency[name], client)
        assert latency[name]["high"] >= LATENCY, (name, latency[name])
    mean_verdict, p95, uptime = told["promises"]
    # No more were within at the client than at the gateway, which counts a little more as within.
    within = sum(time <= 0.25 for time in times) / len(times)
    assert p95["reached"]["high"] >= within - 1e-6, (p95, within)
    # On a slow machine the cold start takes so long that the limit is between the bounds of the mean.
    low, high = latency["mean"]["low"], latency["mean"]["high"]
    assert mean_verdict["outcome"] == ("kept" if high <= MEAN_LIMIT else "broken" if low > MEAN_LIMIT else "unknown")
    assert uptime["outcome"] == "unknown", "a few minutes are no ground for a verdict"
    assert told["replicaHours"] > 0

    rests = stage.until("it rests again", lambda: not stage.pods(NAME), SLOW)
    rules_until_it_fires(stage, host)
    found = {"PROMETHEUS": stage.provider.prometheus(), "WORKLOAD": f"{stage.namespace}/{NAME}"}
    stage.report(
        contract=held(stage, "cluster/test_source_contract.py", "real", **found),
        requests=len(times),
        cold_start=times[-1],
        client_mean=mean,
        reported_mean=latency["mean"],
        client_p95=times[math.ceil(0.95 * len(times)) - 1],
        reported_p95=latency["p95"],
        seen_after=seen,
        rests_after=rests,
    )


def spec(stage: Stage) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    return {**told, "metadata": {"name": NAME}}


def rules_until_it_fires(stage: Stage, host: str) -> None:
    """Set an SLO of 1 ms, which cannot be met, and wait for the alert from the real Prometheus."""
    broken = spec(stage)
    broken["spec"]["slo"] = {"meanLatencyMilliseconds": 1, "p95LatencyMilliseconds": 1, "uptimePercent": 99}
    file = stage.written("broken.yaml", stage.spec(broken))
    done = stage.ebbtide(["slo", "--rules", str(file), *stage.profile()])
    assert done.returncode == 0, done.stderr
    stage.apply(list(yaml.safe_load_all(done.stdout)))

    with in_flight(stage.provider.gateway(), host, requests=1):
        loaded = stage.until("Prometheus has the rules", lambda: health(stage), SLOW)
        stage.until(
            "every rule has been evaluated", lambda: set(health(stage)) == {"ok"}, SLOW, seen=lambda: health(stage)
        )
        fires = stage.until("the alert fires", lambda: values(stage, FIRING), SLOW)
    stage.report(rules_loaded_after=loaded, alert_after=fires)


def health(stage: Stage) -> list[str]:
    """Return the state of each of the workload's rules in Prometheus."""
    found = stage.ask_prometheus("/api/v1/rules")["data"]["groups"]
    name = f"{stage.namespace}-{NAME}-slo"
    return [rule["health"] for group in found if group["name"] == name for rule in group["rules"]]


def values(stage: Stage, query: str) -> list[float]:
    return [float(sample["value"][1]) for sample in stage.query(query.format(namespace=stage.namespace, name=NAME))]
