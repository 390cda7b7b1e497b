"""Output of the writer, which is read back unchanged."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.core.manifests import read_documents, write_document, write_documents, write_json

SERVICE = {
    "apiVersion": "serving.knative.dev/v1",
    "kind": "Service",
    "metadata": {"name": "chat", "labels": {}, "annotations": {"autoscaling.knative.dev/target": "10"}},
    "spec": {
        "containers": [
            {
                "image": "registry.example.com/llama:1.2.3",
                "args": [],
                "command": ["sh", "-c", "echo hi # no"],
            },
            {"resources": {"limits": {"cpu": "500m", "memory": "10Gi", "nvidia.com/gpu": 1}}},
        ],
        "timeoutSeconds": None,
        "portion": 0.25,
        "paused": False,
        "matrix": [[1, 2], [[]], [{"a": 1, "b": 2}]],
    },
}

WRITTEN = """\
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: chat
  labels: {}
  annotations:
    autoscaling.knative.dev/target: "10"
spec:
  containers:
  - image: registry.example.com/llama:1.2.3
    args: []
    command:
    - sh
    - "-c"
    - "echo hi # no"
  - resources:
      limits:
        cpu: 500m
        memory: 10Gi
        nvidia.com/gpu: 1
  timeoutSeconds: null
  portion: 0.25
  paused: false
  matrix:
  - - 1
    - 2
  - - []
  - - a: 1
      b: 2
"""


def test_an_object_is_written_as_by_kubectl_without_sorting() -> None:
    assert write_document(SERVICE) == WRITTEN


def test_objects_are_separated_and_written_one_at_a_time() -> None:
    assert list(write_documents([{"a": 1}, {}, {"b": 2}])) == ["a: 1\n", "---\n{}\n", "---\nb: 2\n"]
    assert list(write_documents([])) == []


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("chat", "chat"),
        ("a b", "a b"),
        ("10Gi", "10Gi"),
        ("/bin/sh", "/bin/sh"),
        ("http://x:80/y", "http://x:80/y"),
        ("", '""'),
        ("yes", '"yes"'),
        ("nUlL", '"nUlL"'),
        ("1", '"1"'),
        ("1e3", '"1e3"'),
        ("1234e56", '"1234e56"'),
        ("12:30", '"12:30"'),
        ("2001-01-01", '"2001-01-01"'),
        ("a: b", '"a: b"'),
        ("a:", '"a:"'),
        ("a #b", '"a #b"'),
        ("a ", '"a "'),
        ("- a", '"- a"'),
        ("é", '"é"'),
        ("😀", '"😀"'),
        ("two\nlines\t", '"two\\nlines\\t"'),
        ('"\\', '"\\"\\\\"'),
        ("\x7f\x85\u2028\u2029\ufeff\uffff\0", '"\\u007f\\u0085\\u2028\\u2029\\ufeff\\uffff\\u0000"'),
    ],
)
def test_a_string_is_unquoted_only_if_that_is_safe(text: str, written: str) -> None:
    assert write_document({"a": text}) == f"a: {written}\n"
    assert write_document({text: 1}) == f"{written}: 1\n"


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0"),
        (-(2**63), "-9223372036854775808"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (1e22, "1.0e+22"),
        (1e-7, "1.0e-07"),
        (1.5e300, "1.5e+300"),
        (-0.0, "-0.0"),
    ],
)
def test_a_number_is_a_number_for_every_parser(number: float, written: str) -> None:
    assert write_document({"a": number}) == f"a: {written}\n"
    assert yaml.safe_load(written) == number


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 2**63, -(2**63) - 1, "\ud800", ["\udfff"], {"\ud800": 1}]
)
def test_values_that_no_parser_reads_back_are_rejected(value: Any) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        write_document({"a": value})


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {None: 1}, b"x", {1, 2}, object()])
def test_values_that_are_not_plain_data_are_rejected(value: Any) -> None:
    with pytest.raises(TypeError):
        write_document({"a": value})


def test_a_key_too_long_for_yaml_to_find_is_written_with_a_question_mark() -> None:
    data = {"a": [{"k" * 2000: {"b": ["c"]}, "é" * 2000: [1], "d": 1}]}
    text = write_document(data)
    assert [document.data for document in read_documents(text, "x")] == [data]
    assert yaml.safe_load(text) == data


def test_json_is_one_list_that_is_also_safe_yaml() -> None:
    text = write_json([{"a": "\x7f\u2028é"}, {}])
    assert text == (
        '{\n  "apiVersion": "v1",\n  "kind": "List",\n  "items": [\n'
        '    {\n      "a": "\\u007f\\u2028é"\n    },\n    {}\n  ]\n}\n'
    )
    assert json.loads(text)["items"] == yaml.safe_load(text)["items"] == [{"a": "\x7f\u2028é"}, {}]


@pytest.mark.parametrize("value", [math.nan, "\ud800"])
def test_json_rejects_the_values_that_yaml_rejects(value: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot write|compliant"):
        write_json([{"a": value}])


nasty_texts = st.text(max_size=8) | st.lists(
    st.sampled_from(
        [
            *(
                "yes",
                "no",
                "y",
                "null",
                "~",
                "0",
                "1",
                "0x",
                "0o",
                "e",
                "_",
                ".",
                "-",
                "+",
                ":",
                ": ",
                " #",
                "- ",
            ),
            *(
                "? ",
                "|",
                ">",
                "&a",
                "*a",
                "!",
                "%",
                "@",
                "`",
                "'",
                '"',
                "{",
                "}",
                "[",
                "]",
                ",",
                "\n",
                "\r",
                "\t",
            ),
            *(
                " ",
                "\\",
                "---",
                "...",
                "\0",
                "\x7f",
                "\x85",
                "\xa0",
                "\u2028",
                "\ufeff",
                "\uffff",
                "😀",
                "=",
                "<<",
            ),
            *("2001-01-01", "12:30"),
        ]
    ),
    max_size=4,
).map("".join)
plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | nasty_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(nasty_texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.lists(st.dictionaries(nasty_texts, plain_data, max_size=4), max_size=3)


@given(objects)
def test_written_yaml_is_read_back_by_the_reader_and_by_pyyaml(data: list[dict[str, Any]]) -> None:
    text = "".join(write_documents(data))
    documents = list(read_documents(text, "x"))
    assert [document.problems for document in documents] == [[]] * len(data)
    # repr, because 1 == 1.0 == True and 0.0 == -0.0.
    assert repr([document.data for document in documents]) == repr(data)
    assert repr(list(yaml.load_all(text, Loader=yaml.CSafeLoader))) == repr(data)


@given(objects)
def test_written_json_is_read_back(data: list[dict[str, Any]]) -> None:
    (document,) = read_documents(write_json(data), "x")
    assert document.problems == []
    assert repr(document.data["items"]) == repr(data)
