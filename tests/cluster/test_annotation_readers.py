"""Readers of annotations: types, bounds and lengths, and the reason if one cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ebbtide.cluster.read.records import (
    Decision,
    ScaleRecord,
    read_decision,
    read_desired_scale,
    read_mark,
    read_scale_record,
)
from ebbtide.cluster.slo import promises
from ebbtide.cluster.slo.promises import read_slo
from ebbtide.core.autoscaler.floor import FloorError, parse_settings, read_settings
from ebbtide.core.base import keys
from ebbtide.core.base.annotations import UnreadableError, parse_finite, parse_seconds, read_count, read_spec
from ebbtide.core.documents import profiles
from ebbtide.core.translation.gpu import find_annotated_gpus


def annotated(key: str, value: Any) -> dict[str, Any]:
    return {"metadata": {"name": "chat", "annotations": {key: value if isinstance(value, str) else json.dumps(value)}}}


SETTINGS: dict[str, Any] = {"minReplicas": 0, "maxReplicas": 4}
METRIC = {"name": "latency", "scope": "pod", "target": 70, "query": "x"}
POLICY = {"type": "Pods", "value": 1, "periodSeconds": 15}
WINDOW = {"start": "0 8 * * *", "end": "0 18 * * *", "timeZone": "Europe/Berlin", "minReplicas": 2}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"maxReplicas": 4}, "minReplicas is missing"),
        ({**SETTINGS, "minReplicas": "abc"}, "minReplicas must be a whole number"),
        ({**SETTINGS, "minReplicas": True}, "minReplicas must be a whole number"),
        ({**SETTINGS, "minReplicas": -1}, "minReplicas must be at least 0"),
        ({**SETTINGS, "maxReplicas": 0}, "maxReplicas must be at least 1"),
        ({**SETTINGS, "maxReplicas": 10**400}, "maxReplicas must be at most 2147483647"),
        ({**SETTINGS, "minReplicas": 5}, "minReplicas 5 must be at most maxReplicas 4"),
        ({**SETTINGS, "metrics": [{**METRIC, "target": float("nan")}]}, "metrics[0].target must be a finite number"),
        ({**SETTINGS, "metrics": [{**METRIC, "target": 0.0001}]}, "metrics[0].target must be at least 0.001"),
        ({**SETTINGS, "metrics": [{**METRIC, "target": 1e16}]}, f"metrics[0].target must be at most {1e15}"),
        (
            {**SETTINGS, "metrics": [{**METRIC, "scope": "moon"}]},
            "metrics[0].scope must be 'pod', 'average', 'total' or",
        ),
        (
            {**SETTINGS, "metrics": [{**METRIC, "name": "a\u001bb"}]},
            "metrics[0].name must not contain control characters",
        ),
        ({**SETTINGS, "metrics": [{**METRIC, "name": ""}]}, "metrics[0].name must not be empty"),
        (
            {**SETTINGS, "metrics": [{**METRIC, "query": "x" * 5000}]},
            "metrics[0].query must have at most 4000 characters",
        ),
        ({**SETTINGS, "metrics": [METRIC] * 101}, "metrics must have at most 100 items"),
        ({**SETTINGS, "metrics": {}}, "metrics must be a list"),
        (
            {**SETTINGS, "metrics": [{**METRIC, "scope": "resource", "target": 0.5}]},
            "target 0.5 of latency must be at least 1",
        ),
        ({**SETTINGS, "behavior": {"scaleUp": []}}, "behavior.scaleUp must be an object"),
        (
            {**SETTINGS, "behavior": {"scaleUp": {"stabilizationWindowSeconds": "x"}}},
            "stabilizationWindowSeconds must be",
        ),
        ({**SETTINGS, "behavior": {"scaleUp": {"policies": [{**POLICY, "periodSeconds": 0}]}}}, "must be at least 1"),
        ({**SETTINGS, "schedule": [{**WINDOW, "start": "x"}]}, "a cron expression has 5 fields"),
        ({**SETTINGS, "schedule": [{**WINDOW, "timeZone": "../etc/passwd"}]}, "time zone ../etc/passwd not found"),
        ({**SETTINGS, "calmSeconds": -1}, "calmSeconds must be at least 0"),
    ],
)
def test_settings_that_cannot_be_read_name_the_field_and_what_is_valid(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(FloorError) as raised:
        read_settings(annotated(keys.FLOOR, settings))

    assert str(raised.value).startswith(f"{keys.FLOOR} cannot be read: ")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be JSON"),
        ("[" * 60_000, "must be JSON: recursion limit exceeded"),
        ('{"a":' * 10_000, "must be JSON: recursion limit exceeded"),
        ("[" * 100_000, "must have at most 64 KiB"),
        ("[]", "must be an object"),
        ('{"minReplicas":1e400,"maxReplicas":4}', "minReplicas must be a whole number"),
        ('{"minReplicas":' + "9" * 5000 + ',"maxReplicas":4}', "must be JSON: number out of range"),
        ('{"minReplicas":0,"maxReplicas":4,"x":"\\ud800"}', "must be JSON: unexpected end of hex escape"),
        ('{"minReplicas":0,"maxReplicas":4,"x":"\ud800"}', "must be valid Unicode"),
    ],
)
def test_text_that_is_no_valid_json_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(FloorError, match="^" + reason.replace("(", "\\(")):
        parse_settings(text)


def test_fields_of_a_later_version_are_ignored() -> None:
    assert parse_settings('{"minReplicas":0,"maxReplicas":4,"later":[NaN]}').maximum == 4


def test_a_workload_without_the_annotation_has_no_settings() -> None:
    assert read_settings({"metadata": {"name": "chat"}}) is None


@pytest.mark.parametrize(
    "value",
    ["abc", [], '{"minReplicas":"abc"}', '{"minReplicas":1,"base":"x"}', '{"metricThreshold":NaN}', "[" * 60_000],
)
def test_a_scale_record_that_cannot_be_read_is_no_override_and_has_a_reason(value: Any) -> None:
    record = read_scale_record(annotated(keys.SCALE, value))

    assert record.problem.startswith(f"{keys.SCALE} cannot be read: ")
    assert (record.values, record.base, record.minimum) == ({}, {}, None)
    assert not record


def test_a_scale_record_has_whole_numbers_where_they_are_whole() -> None:
    text = '{"minReplicas":2,"metricThreshold":70.0,"base":{"minReplicas":1,"metricThreshold":null,"more":3},"more":3}'
    record = read_scale_record(annotated(keys.SCALE, text))

    assert record == ScaleRecord({"minReplicas": 2, "metricThreshold": 70}, {"minReplicas": 1, "metricThreshold": None})
    assert str(record.values["metricThreshold"]) == "70"
    assert record.minimum == 2


def test_a_mark_restores_only_the_annotations_that_a_rollout_changes() -> None:
    saved = {keys.MIN_SCALE: "4", keys.MAX_SCALE: None, "example.com/owner": "mallory"}
    mark = read_mark(annotated(keys.ROLLOUT, {"replicas": 4, "saved": saved}))

    assert mark is not None
    assert mark.saved == {keys.MIN_SCALE: "4", keys.MAX_SCALE: None}


DECISION = {"floor": 3, "cause": "metric", "at": "2027-01-15T08:00:00Z"}


@pytest.mark.parametrize(
    "value",
    [
        {**DECISION, "floor": "3"},
        {**DECISION, "cause": "magic"},
        {**DECISION, "at": None},
        {**DECISION, "metrics": 5},
        {**DECISION, "metrics": [{"name": "latency", "target": "x"}]},
    ],
)
def test_a_decision_that_cannot_be_read_has_no_floor(value: Any) -> None:
    decision = read_decision(annotated(keys.DECISION, value))

    assert decision == Decision(problem=decision.problem if decision else "")
    assert decision.problem.startswith(f"{keys.DECISION} cannot be read: ")


def test_a_missing_decision_differs_from_an_unreadable_one() -> None:
    assert read_decision({"metadata": {}}) is None
    assert read_decision(None) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("0", 0), ("4", 4), ("+4", 4), ("004", 4), ("2147483647", 2**31 - 1)),
        *(
            (text, None)
            for text in ("", " 4", "-1", "4.0", "1e3", "²", "\uff11", "٣", "2147483648", "9" * 5000, "NaN", "0x4")
        ),
    ],
)
def test_a_number_of_replicas_is_read_as_knative_reads_it(text: str, count: int | None) -> None:
    assert read_count(annotated(keys.MIN_SCALE, text), keys.MIN_SCALE) == count


def test_a_missing_number_of_replicas_is_unknown() -> None:
    assert read_count({"metadata": {"annotations": None}}, keys.MIN_SCALE) is None
    assert read_count(None, keys.MIN_SCALE) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("70", 70), ("0.5", 0.5), ("1.", 1), ("1e2", 100), ("-1", -1)),
        *(
            (text, None)
            for text in ("", "NaN", "inf", "Infinity", "1e400", "1e16", "\uff11", "1_000", "9" * 5000, "0x1p3")
        ),
    ],
)
def test_a_number_is_finite_and_in_ascii(text: str, number: float | None) -> None:
    assert parse_finite(text) == number


@pytest.mark.parametrize("value", [None, -1, True, "3", 2.0, float("nan"), 2**31, [], {}])
def test_a_desired_scale_other_than_a_count_is_unknown(value: Any) -> None:
    assert read_desired_scale({"status": {"desiredScale": value}}) is None


def test_a_desired_scale_of_zero_is_known() -> None:
    assert read_desired_scale({"status": {"desiredScale": 0}}) == 0
    assert read_desired_scale(None) is None


@pytest.mark.parametrize(
    "text", ['{"a":NaN}', '{"a":[{"b":1e400}]}', '{"a":' + "9" * 400 + "}", "[]", "x", "[" * 300_000]
)
def test_a_stored_spec_has_finite_numbers(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_spec(annotated(keys.SPEC, text))


def test_a_stored_spec_is_as_it_was_written() -> None:
    spec: dict[str, Any] = {"image": "x", "list": [1, 2.5, None, True, {"a": []}]}

    assert read_spec(annotated(keys.SPEC, spec)) == spec
    assert read_spec({"metadata": {}}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("60s", 60), ("1m30s", 90), ("1h0m5.5s", 3605.5), ("500ms", 0.5), ("0s", 0)),
        *((text, None) for text in ("", "5", "s", "-5s", "1e9h", "1.5.5s", "1 s", "9" * 400 + "s", "999999999999h")),
    ],
)
def test_a_duration_is_read_as_go_does(text: str, seconds: float | None) -> None:
    assert parse_seconds(text) == seconds


NV = keys.NV_CONTAINER


@pytest.mark.parametrize(
    ("annotations", "amounts"),
    [
        ({keys.KAI_FRACTION: "0.25"}, {keys.KAI_FRACTION: 0.25}),
        ({keys.KAI_MEMORY: "4096", keys.KAI_DEVICES: "2"}, {keys.KAI_MEMORY: 8192}),
        *(({keys.KAI_FRACTION: text}, {}) for text in ("NaN", "inf", "1e400", "-1", "2", "x")),
        *(({keys.KAI_FRACTION: "0.5", keys.KAI_DEVICES: text}, {}) for text in ("-1", "9" * 5000, "2000", "x")),
        ({keys.KAI_MEMORY: "1e15"}, {}),
        ({f"{NV}a.gpu-memory.request": "4Gi", f"{NV}a.gpu-memory.limit": "8Gi"}, {keys.KAI_MEMORY: 4096}),
        ({f"{NV}a.gpu-memory.limit": "8192Mi"}, {keys.KAI_MEMORY: 8192}),
        ({f"{NV}a.gpu-memory.request": "1000M", keys.KAI_DEVICES: "2"}, {keys.KAI_MEMORY: 1908}),
        ({f"{NV}a.gpu-memory.request": "4Gi", keys.KAI_FRACTION: "0.25"}, {keys.KAI_FRACTION: 0.25}),
        ({f"{NV}a.gpu-compute.mode": "sm-sharing", f"{NV}a.gpus.devices": "GPU-1"}, {}),
        *(({f"{NV}a.gpu-memory.request": text}, {}) for text in ("x", "-1", "1e30", "9" * 5000, "")),
    ],
)
def test_gpus_in_an_annotation_are_amounts_that_a_pod_can_have(
    annotations: dict[str, str], amounts: dict[str, float]
) -> None:
    assert find_annotated_gpus(annotations) == amounts


def test_a_stored_spec_that_no_calculation_expects_has_no_slo(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def overflow(*_: object) -> None:
        raise OverflowError("cannot convert float infinity to integer")

    monkeypatch.setattr(promises, "make_plan", overflow)
    top = annotated(keys.SPEC, {"image": "x"})
    top["metadata"]["namespace"] = "team-shop"
    slo = read_slo(top, profiles.load_built_in("full"))
    assert (slo.slo, slo.gpus) == (None, None)
    assert "team-shop/chat cannot be read: OverflowError in " in caplog.text
