"""Traffic: every format is parsed into its requests, and every invalid row is reported with its line."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.simulator.data import SimulationRequestError
from ebbtide.simulator.traffic import load

if TYPE_CHECKING:
    from ebbtide.core.base.problems import Problem
    from ebbtide.simulator.data import TrafficTrace


def traffic(text: str, **settings: Any) -> TrafficTrace:
    return load.parse_traffic(text.encode(), "log", **settings)


def problems(text: str | bytes, **settings: Any) -> list[Problem]:
    with pytest.raises(SimulationRequestError) as refused:
        load.parse_traffic(text.encode() if isinstance(text, str) else text, "log", **settings)
    return refused.value.problems


def shape_problem(words: str) -> Problem:
    with pytest.raises(SimulationRequestError) as refused:
        load.generate_traffic(words)
    (problem,) = refused.value.problems
    return problem


def list_codes(problems: list[Problem]) -> list[tuple[str, int]]:
    return [(problem.code, problem.line) for problem in problems]


def generate_trace(words: str, seed: int = 0) -> TrafficTrace:
    return load.generate_traffic(words, seed)


# Logs


AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2225670,879,55
"""


def test_azure_s_trace() -> None:
    trace = traffic(AZURE)

    assert trace.times.round(3).tolist() == [0.0, 4.315, 4.542]
    assert trace.prompt_tokens is not None
    assert trace.output_tokens is not None
    assert trace.prompt_tokens.tolist() == [374, 396, 879]
    assert trace.output_tokens.tolist() == [44, 109, 55]
    assert trace.seconds == pytest.approx(4.542, abs=1e-3)


def test_mooncake_s_trace_is_in_milliseconds() -> None:
    rows = (
        {"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [1]},
        {"timestamp": 1500, "input_length": 7, "output_length": 8, "hash_ids": []},
    )
    trace = traffic("".join(json.dumps(row) + "\n" for row in rows))

    assert trace.times.tolist() == [0.0, 1.5]
    assert trace.output_tokens is not None
    assert trace.output_tokens.tolist() == [6, 8]


def test_burstgpt_s_trace() -> None:
    trace = traffic(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n"
    )

    assert trace.times.tolist() == [0.0, 40.0]
    assert trace.prompt_tokens is not None
    assert trace.prompt_tokens.tolist() == [472, 1087]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("time\n10\n12.5\n", {}),
        ("when;who\n10;a\n12.5;b\n", {"time": "when"}),
        ("ts\twho\n1700000010000\tx\n1700000012500\tx\n", {}),
        ("start_ms\n10000\n12500\n", {"time": "start_ms"}),
        ("t\n10000\n12500\n", {"time": "t", "unit": "ms"}),
        ("time\n2024-05-01T00:00:10Z\n2024-05-01T02:00:12.5+02:00\n", {}),
        ('[{"time": 10}, {"time": 12.5}]', {}),
        ("\ufefftime\r\n12.5\r\n\r\n10\r\n", {}),
    ],
)
def test_times_in_every_form(text: str, columns: dict[str, str]) -> None:
    assert traffic(text, columns=columns).times.tolist() == [0.0, 2.5]


def test_a_request_without_tokens_has_0() -> None:
    trace = traffic("time,prompt_tokens\n1,\n2,7\n")

    assert trace.prompt_tokens is not None
    assert trace.prompt_tokens.tolist() == [0, 7]
    assert trace.output_tokens is None


def test_all_invalid_rows_are_reported_with_their_lines() -> None:
    text = "time,prompt_tokens\n1,5\nsoon,5\n3\n,5\n5,many\n6,-1\n7,1.5\nnan,1\n"

    assert list_codes(problems(text)) == [
        ("TRF002", 3),
        ("TRF002", 4),
        ("TRF002", 5),
        ("TRF003", 6),
        ("TRF003", 7),
        ("TRF003", 8),
        ("TRF002", 9),
    ]
    assert "invalid time 'soon'" in [problem.message for problem in problems(text)]


def test_after_twenty_invalid_rows_the_rest_is_counted() -> None:
    reported = problems("time\n" + "never\n" * 50)

    assert len(reported) == 21
    assert reported[-1].message == "30 more rows cannot be read"


def test_invalid_lines_of_json_are_reported() -> None:
    assert list_codes(problems('{"time": 1}\nnot json\n{"time": null}\n[1]\n')) == [
        ("TRF002", 2),
        ("TRF002", 3),
        ("TRF002", 4),
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "TRF001"),
        ("a,b\n1,2\n", "TRF001"),
        ("time\n", "TRF004"),
        ("time,count\n1,0\n", "TRF004"),
        ("time,count\n1,1e7\n2,1e7\n3,1e7\n", "TRF007"),
        ("time\n0\n1700000000\n", "TRF007"),
        ("time,count\n0,1\n1700000000,1\n", "TRF007"),
        ('{"status": "error", "errorType": "bad_data", "error": "parse error"}', "TRF005"),
        ('{"status": "success", "data": {"resultType": "vector", "result": []}}', "TRF005"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": []}}', "TRF004"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "x"]]}]}}', "TRF005"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": [3]}}', "TRF005"),
        ('{"status": "success", "data": 3}', "TRF005"),
    ],
)
def test_invalid_traffic_has_its_code(text: str, code: str) -> None:
    assert [problem.code for problem in problems(text)] == [code]


def test_a_json_line_ends_only_at_a_newline() -> None:
    """Python treats U+2028 and similar characters as line ends; JSON allows them in strings."""
    texts = ("one\u2028two", "one\x85two", "plain")
    lines = [json.dumps({"time": place, "text": text}, ensure_ascii=False) for place, text in enumerate(texts)]

    assert list_codes(problems("\r\n".join([*lines, "{}"]))) == [("TRF002", 4)]
    assert traffic("\n".join(lines)).times.tolist() == [0, 1, 2]


def test_a_cell_may_contain_a_long_prompt() -> None:
    assert len(traffic(f"time,text\n1,{'word ' * 30_000}\n2,short\n").times) == 2


def test_a_prometheus_result_has_no_columns() -> None:
    text = '{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "2"]]}]}}'
    (problem,) = problems(text, columns={"time": "when"})

    assert (problem.code, problem.message) == ("TRF005", "a Prometheus result has no columns")


def test_a_missing_column_is_reported_with_the_existing_ones() -> None:
    (problem,) = problems("a,b\n1,2\n", columns={"time": "c"})

    assert (problem.message, problem.fix) == ("column 'c' not found in the file", "use one of its columns: a, b")


def test_invalid_utf_8_is_reported_with_its_line() -> None:
    assert list_codes(problems(b"time\n1\n\xff\n")) == [("TRF001", 3)]


@given(st.binary(max_size=300))
def test_no_bytes_cause_an_exception(data: bytes) -> None:
    with contextlib.suppress(SimulationRequestError):
        load.parse_traffic(data, "log")


@given(st.lists(st.text(alphabet='time,{}[]":0123456789e.-+\n ', max_size=30), max_size=8))
def test_no_text_causes_an_exception(lines: list[str]) -> None:
    with contextlib.suppress(SimulationRequestError):
        load.parse_traffic(("time,count\n" + "\n".join(lines)).encode(), "log")


# Counts


def test_counts_are_spread_over_their_interval() -> None:
    trace = traffic("time,count\n0,5\n60,0\n120,3\n")

    assert np.histogram(trace.times, bins=(0, 60, 120, 180))[0].tolist() == [5, 0, 3]
    assert trace.seconds == 180.0
    assert (np.diff(trace.times) >= 0).all()


def test_requests_of_rates_are_random() -> None:
    trace = traffic("time,rps\n" + "".join(f"{minute * 60},5\n" for minute in range(60)))

    assert len(trace.times) == pytest.approx(18_000, rel=0.03)


def test_the_same_seed_gives_the_same_traffic() -> None:
    text = "time,count\n0,50\n60,50\n"

    assert traffic(text, seed=1).times.tolist() == traffic(text, seed=1).times.tolist()
    assert traffic(text, seed=1).times.tolist() != traffic(text, seed=2).times.tolist()


# Prometheus


def matrix(*series: dict[str, Any]) -> str:
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(series)}})


def test_rates_of_several_series_add_up() -> None:
    values = [[second, "10"] for second in range(0, 600, 15)]
    trace = traffic(matrix({"metric": {"pod": "a"}, "values": values}, {"metric": {"pod": "b"}, "values": values}))

    assert len(trace.times) == pytest.approx(12_000, rel=0.04)
    assert trace.seconds == 600.0


def test_a_counter_gives_differences_and_may_be_reset() -> None:
    values = [[0, "100"], [60, "700"], [120, "60"], [180, "660"]]
    trace = traffic(matrix({"metric": {"__name__": "revision_request_count"}, "values": values}))

    assert np.histogram(trace.times, bins=(0, 60, 120, 180))[0].tolist() == [600, 60, 600]


def test_nan_means_no_requests() -> None:
    trace = traffic(matrix({"metric": {}, "values": [[0, "NaN"], [60, "1"]]}))

    assert trace.times.min() >= 0.0
    assert trace.seconds == 120.0


# Shapes


@pytest.mark.parametrize(
    ("words", "requests", "seconds"),
    [
        ("constant:5rps,10m", 3000, 600),
        ("poisson:300rpm,10m", 3000, 600),
        ("ramp:1rps..20rps,10m", 6300, 600),
        ("steps:2rps,5m,20rps,2m", 3000, 420),
        ("diurnal:1rps..5rps,24h", 259_200, 86_400),
        ("diurnal:1rps..5rps,1h,30m", 10_800, 3600),
        ("on-off:10rps,2m,8m,1h", 7200, 3600),
        ("on-off:10rps,2m,8m,11m", 1800, 660),
    ],
)
def test_a_shape_has_its_requests_and_its_length(words: str, requests: int, seconds: float) -> None:
    trace = generate_trace(words)

    assert len(trace.times) == pytest.approx(requests, rel=0.05)
    assert trace.seconds == pytest.approx(seconds)
    assert (np.diff(trace.times) >= 0).all()
    assert 0 <= trace.times[0] <= trace.times[-1] <= seconds


def test_only_a_constant_shape_has_equal_intervals() -> None:
    assert np.ptp(np.diff(generate_trace("constant:4rps,1m").times)) == pytest.approx(0, abs=1e-9)
    assert np.diff(generate_trace("poisson:4rps,10m").times).std() == pytest.approx(0.25, rel=0.1)


def test_an_on_off_shape_has_no_requests_when_off() -> None:
    times = generate_trace("on-off:10rps,2m,8m,1h").times

    assert (times % 600 <= 120).all()


def test_a_diurnal_shape_has_its_peak_at_noon() -> None:
    counts = np.histogram(generate_trace("diurnal:1rps..9rps,24h").times, bins=24)[0]

    assert counts.argmax() in {11, 12}
    assert counts[0] < counts[11] / 5


def test_a_shape_with_tokens() -> None:
    trace = generate_trace("poisson:5rps,1m,prompt=500,output=200")

    assert trace.prompt_tokens is not None
    assert trace.output_tokens is not None
    assert set(trace.prompt_tokens.tolist()) == {500}
    assert set(trace.output_tokens.tolist()) == {200}


@pytest.mark.parametrize(
    "words",
    [
        "ramp:1rps,10m",
        "ramp:1rps..2rps",
        "ramp:",
        "steps:1rps",
        "steps:",
        "constant:5,10m",
        "constant:5rps,soon",
        "constant:5rps,0s",
        "on-off:1rps",
        "diurnal:1rps..2rps,1h,1h,1h",
        "constant:1rps,1m,prompt=many",
        "constant:1rps,1m,size=3",
        "constant:1rps,101d",
        "ramp:1rps..2rps," + "9" * 400 + "d",
        "on-off:1rps,1ms,1ms,100d",
        "diurnal:1rps..2rps,100d,1s",
    ],
)
def test_an_invalid_shape_is_reported_with_its_syntax(words: str) -> None:
    problem = shape_problem(words)

    assert problem.code == "TRF006"
    assert problem.fix == f"use {load.FORMS[words.partition(':')[0]]}"


def test_a_shape_without_or_with_too_many_requests() -> None:
    assert shape_problem("poisson:0rps,1m").code == "TRF004"
    assert shape_problem("constant:1000000rps,1d").code == "TRF007"


def test_a_shape_with_too_many_cycles_or_too_long_is_reported() -> None:
    often, long = map(shape_problem, ("on-off:1rps,1ms,1ms,1d", "steps:1rps,60d,2rps,60d"))

    assert often.message == "the shape has 43,200,000 cycles, and the maximum is 500,000"
    assert (long.code, long.message) == ("TRF007", "the traffic lasts 120 d, and the maximum is 100 d")


def test_an_on_off_shape_may_end_before_it_is_off() -> None:
    assert generate_trace("on-off:1rph,60d,60d,1d").seconds == 86_400


def test_a_part_of_the_traffic_has_relative_times() -> None:
    whole = generate_trace("constant:1rps,1m,prompt=3,output=4")
    part = load.slice_traffic(whole, 30.0, 60.0)

    assert part.times.tolist() == (whole.times[30:] - 30).tolist()
    assert part.seconds == 30.0
    assert part.prompt_tokens is not None
    assert len(part.prompt_tokens) == 30
