"""Values that the strict reader accepts and rejects, and the location of its problems."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebbtide.core.manifests import Document, read_documents, write_documents
from ebbtide.core.manifests.blocks import read_block
from ebbtide.core.manifests.events import Builder


def read_one(text: str | bytes) -> Document:
    """Return the only document of a text."""
    (document,) = read_documents(text, "chat.yaml")
    return document


def list_problems(text: str | bytes) -> list[tuple[str, str, int]]:
    """Return the code, the field and the line of every problem."""
    return [
        (problem.code, problem.path, problem.line)
        for document in read_documents(text, "chat.yaml")
        for problem in document.problems
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("text", "text"),
        ("", None),
        ("~", None),
        ("Null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-7", -7),
        ("+1", 1),
        ("0x1F", 31),
        ("9223372036854775807", 2**63 - 1),
        ("0.25", 0.25),
        (".5", 0.5),
        ("1.5e+3", 1500.0),
        ("10Gi", "10Gi"),
        ("500m", "500m"),
        ("1.27.3", "1.27.3"),
        ("10.0.0.1", "10.0.0.1"),
        ("8080:80", "8080:80"),
        ("--flag=yes", "--flag=yes"),
        ("yES", "yES"),
        ('"yes"', "yes"),
        ("'1'", "1"),
        ('"\\u2028\\0"', "\u2028\0"),
        ("a?b", "a?b"),
        ("[a, 1]", ["a", 1]),
        ('{"a?b": 1}', {"a?b": 1}),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_a_value_on_which_all_parsers_agree_is_accepted(written: str, value: Any) -> None:
    document = read_one(f"a: {written}\n")
    assert document.problems == []
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


@pytest.mark.parametrize(
    "written", ["y", "off", "017", "0o17", "1e3", "1_000", "12:30", "2001-01-01", ".inf", "=", "-_7", "0_o3", "0b-1"]
)
def test_a_value_on_which_parsers_differ_is_rejected_with_a_fix(written: str) -> None:
    document = read_one(f"# first\na:\n- {written}\n")
    (problem,) = document.problems
    assert (problem.code, problem.path, problem.line) == ("YML002", "a[0]", 3)
    assert problem.message == f"{written} is ambiguous: YAML parsers read it differently"
    assert problem.fix == f'quote it: "{written}"'
    assert problem.document == "chat.yaml"
    assert document.data == {"a": [written]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Invalid YAML, or YAML that parsers read differently.
        ("a: [1\n", [("YML001", "", 1)]),
        ("a: 1\n  b: 2\n", [("YML001", "", 2)]),
        ("a: b: c\n", [("YML001", "", 1)]),
        ("a: 1\n...\nb: 2\n", [("YML001", "", 3)]),
        ("a: 1\n--- {b: 1}\n", [("YML001", "", 2)]),
        ("a: 1\n---b\n", [("YML001", "", 2)]),
        ("a: 1\n---#b\n", [("YML001", "", 2)]),
        ("a: {b: c?d}\n", [("YML002", "a.b", 1)]),
        ("a: 1\nb: x\u2028y\n", [("YML001", "", 2)]),
        ("a: 1\nb: x\x85y\n", [("YML001", "", 2)]),
        ("a: 'x\ry'\n", [("YML001", "", 1)]),
        ("a: x\ufeffy\n", [("YML001", "", 1)]),
        ("a: \x00\n", [("YML001", "", 1)]),
        ("a: \x7f\n", [("YML001", "", 1)]),
        ("a: '\ud800'\n", [("YML001", "", 1)]),
        ("a: 'x\x01'\nb: 'y\x02\x03'\nc: yes\n", [("YML001", "", 1), ("YML001", "", 2), ("YML002", "c", 3)]),
        (b"a: 1\nb: \xff\n", [("YML001", "", 2)]),
        ("a: 1\n".encode("utf-16"), [("YML001", "", 1)]),
        ("a: 1\n".encode("utf-32"), [("YML001", "", 1)]),
        # Keys.
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", [("YML003", "b.c", 5)]),
        ('a: 1\n"a": 2\n', [("YML003", "a", 2)]),
        ("1: x\n", [("YML005", "1", 1)]),
        ("true: x\n", [("YML005", "true", 1)]),
        ("y: x\n", [("YML005", "y", 1)]),
        ("a: 1\n?\n: x\n", [("YML005", "", 2)]),
        ("a:\n  [b]: c\n  {d: e}: f\n", [("YML005", "a", 2), ("YML005", "a", 3)]),
        # YAML features that manifests do not need.
        ("a: &x 1\nb: *x\n", [("YML004", "a", 1), ("YML004", "b", 2)]),
        ("a: &x {b: 1}\nc: {<<: *x}\n", [("YML004", "a", 1), ("YML004", "c", 2), ("YML004", "c.<<", 2)]),
        ("&x a: 1\n*x : 2\n", [("YML004", "", 1), ("YML004", "", 2)]),
        ("a: !!str 1\n", [("YML004", "a", 1)]),
        ("a: ! 1\n", [("YML004", "a", 1)]),
        ('a: ! "1"\n', [("YML004", "a", 1)]),
        ("a: !x [1]\n", [("YML004", "a", 1)]),
        ("a: b!c & d\n", []),
        ("# c\n%YAML 1.1\n---\na: 1\n", [("YML004", "", 2)]),
        # Limits.
        ("a: 9223372036854775808\n", [("YML006", "a", 1)]),
        ("a: 0xffffffffffffffffff\n", [("YML006", "a", 1)]),
        (f"a: {'9' * 9000}\n", [("YML006", "a", 1)]),
        ("a: 1.0e+400\n", [("YML006", "a", 1)]),
        ("[" * 65 + "]" * 65, [("YML006", "[0]" * 64, 1)]),
        ("[" * 64 + "]" * 64, []),
        ("[" * 500, [("YML006", "[0]" * 64, 1)]),
        ("[" * 100_000, [("YML006", "", 1)]),
        ('{"a":' * 100_000, [("YML006", ".".join("a" * 64), 1)]),
    ],
)
def test_a_problem_has_its_field_and_line(text: str | bytes, expected: list[tuple[str, str, int]]) -> None:
    assert list_problems(text) == expected


def test_a_duplicate_key_names_both_lines() -> None:
    (problem,) = read_one("\n---\n# c\na: 1\nb: 2\na: 3\n").problems
    assert problem.message == 'duplicate key "a", first used on line 4'
    assert problem.line == 6


def test_all_problems_are_reported_together() -> None:
    text = "a: yes\na: 2\n1: x\n---\nb: [\n---\nc: 0o7\nd: &x 1\n"
    assert list_problems(text) == [
        ("YML002", "a", 1),
        ("YML003", "a", 2),
        ("YML005", "1", 3),
        ("YML001", "", 5),
        ("YML002", "c", 7),
        ("YML004", "d", 8),
    ]


def test_problems_before_a_syntax_error_are_kept() -> None:
    document = read_one("a: yes\nb: [1\nc: no\n")
    assert [problem.code for problem in document.problems] == ["YML002", "YML001"]
    assert document.data is None


def test_an_invalid_document_does_not_hide_the_others() -> None:
    documents = list(read_documents("a: 1\n---\nb: [\n---\nc: 3\n", "x.yaml"))
    assert [document.data for document in documents] == [{"a": 1}, None, {"c": 3}]
    assert [document.name for document in documents] == ["x.yaml", "x.yaml#2", "x.yaml#3"]


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment\n", "---\n", "---\n---\n# c\n---", "\ufeff", "null\n", "--- # c\n"]
)
def test_an_empty_text_has_no_documents(text: str) -> None:
    assert list(read_documents(text, "x")) == []
    assert list(read_documents(text.encode(), "x")) == []


def test_empty_documents_are_skipped_and_not_counted() -> None:
    documents = list(read_documents("---\n# c\n---\na: 1\n---\n\n---\nb: 2\n...\n", "x"))
    assert [(document.name, document.data) for document in documents] == [("x", {"a": 1}), ("x#2", {"b": 2})]


@pytest.mark.parametrize("text", ["a: é\nb: 😀\n", "\ufeffa: é\nb: 😀\n", "a: é\r\nb: 😀\r\n", "--- \t\r\na: é\nb: 😀"])
def test_text_bytes_and_line_ends_make_no_difference(text: str) -> None:
    assert read_one(text).data == read_one(text.encode()).data == {"a": "é", "b": "😀"}
    assert list_problems(text) == list_problems(text.encode()) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, -2.5, true, null, "x"]}',
        '{\n\t"a":\t[1,\t-2.5],\n\t"b"\t:\t{}\n}\n',
        '\t{"a": 1}',
        '{"a": "\\ud83d\\ude00", "b\\/c": "\\u0000"}',
        '{"a"\n:1e3}',
        '{"a": "x\u2028y\x7f"}',
        '{"a": 1E-2, "b": -0}',
        json.dumps({"k" * 2000: "é\n" * 50}),
        '[{"a": 1}]',
    ],
)
def test_strict_json_is_read_as_json(text: str) -> None:
    document = read_one(text)
    assert document.problems == []
    assert document.data == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1e999}',
        '{"a": 1e3, "b": NaN}',
        '{"a": 9223372036854775808}',
        '{"a": "\\ud800"}',
        '{"a": 01}',
    ],
)
def test_loose_json_is_rejected(text: str) -> None:
    assert list_problems(text) != []


def test_a_line_is_found_for_a_path_or_its_deepest_part() -> None:
    text = "# c\nz: 1\n---\n\na:\n  b:\n  - c: 1\n\n  - d: 2\n    e: |\n      x\n"
    document = list(read_documents(text, "x"))[1]
    assert document.line(()) == 5
    assert document.line(("a",)) == 5
    assert document.line(("a", "b", 0, "c")) == 7
    assert document.line(("a", "b", 1)) == 9
    assert document.line(("a", "b", 1, "e")) == 10
    assert document.line(("a", "b", 7, "q")) == 6
    assert document.line(("nowhere",)) == 5


def test_a_line_is_unknown_if_nothing_could_be_read() -> None:
    assert read_one(b"\xff").line(("a",)) == 0


def test_a_line_is_found_before_a_syntax_error() -> None:
    assert read_one("a: 1\nb: 2\nc: [\n").line(("b",)) == 2


def test_a_line_is_found_above_the_maximum_depth() -> None:
    document = read_one("a: 1\nb:\n" + "- " * 80 + "x\n")
    assert document.data is None
    assert document.line(("b",)) == 2
    assert document.line(("b", *[0] * 80)) == 3


def test_reading_is_lazy() -> None:
    documents = read_documents("a: 1\n---\nb: 2\n", "x")
    assert next(documents).data == {"a": 1}
    assert next(documents).data == {"b": 2}
    with pytest.raises(StopIteration):
        next(documents)


@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf---")
@example(b"!")
@example(b"? ")
@example(b"%")
def test_the_reader_never_fails_on_bytes(raw: bytes) -> None:
    for document in read_documents(raw, "x"):
        assert document.data is not None or document.problems
        assert document.problems or json.dumps(document.data)
        assert document.line(("a", 0)) >= 0


yaml_like = st.lists(
    st.sampled_from(
        [
            *"abyn01.:-?#&*!|>%@`'\"{}[],~=<\\ \t\n\r",
            "\n---\n",
            "\n...\n",
            "- ",
            ": ",
            "<<: ",
            "! ",
            "&a ",
            "*a ",
            "\x85",
            "\ufeff",
            "\ud800",
            "é",
        ]
    )
).map("".join)


@given(yaml_like)
def test_the_reader_never_fails_on_text_and_every_problem_is_complete(text: str) -> None:
    last = text.count("\n") + 1
    for document in read_documents(text, "x"):
        assert document.data is not None or document.problems
        for problem in document.problems:
            assert problem.message
            assert problem.fix or problem.code == "YML001"
            assert 1 <= problem.line <= last


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.from_regex(r"[a-w]{1,4}", fullmatch=True), plain_data, min_size=1, max_size=6))
def test_a_line_is_where_its_key_is_written(data: dict[str, Any]) -> None:
    text = "# c\n" + "".join(write_documents([data]))
    document = read_one(text)
    lines = text.split("\n")
    for key in data:
        numbers = [number for number, line in enumerate(lines, 1) if line.startswith((f"{key}:", f'"{key}":'))]
        assert [document.line((key,))] == numbers


@given(
    st.dictionaries(st.text(max_size=4), plain_data, max_size=4),
    st.sampled_from([None, 2, "\t"]),
    st.booleans(),
)
def test_json_is_read_as_a_json_parser_reads_it(
    data: dict[str, Any], indent: int | str | None, ascii_only: bool
) -> None:
    document = read_one(json.dumps(data, indent=indent, ensure_ascii=ascii_only))
    assert document.problems == []
    assert document.data == data


#: Lines of plain specs, and lines that look like them.
block_line = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", " ", "  ", "   ", "    "]),
        st.sampled_from(["", "", "", "- ", "- - ", "-", "-  "]),
        st.sampled_from(["a:", "b:", "c:", "a: ", "b: ", "c: ", "no: ", "1: ", "k.io/a: ", "a :", "'a': ", "? ", ""]),
        st.sampled_from(
            ["", "", "x", "1", "0.5", "1e3", "yes", "null", "~", "''", "'it''s'", '"a b"', '"\\n"', "a b", "a  b "]
        )
        | st.sampled_from(
            ["a: b", "a:b", "a:", "a #b", "a#b", "#", "# c", "{}", "[1]", "|", ">-", "&a", "*a", "!x", "é", "x\r"]
        )
        | st.text(st.characters(max_codepoint=0x7E), max_size=5),
    ),
)


block_data = st.recursive(
    st.sampled_from(["x", 1, 0.5, True, "a b", "1"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def block_texts(draw: st.DrawFn) -> str:
    """Return a plain document, of which up to two lines are replaced, inserted or removed."""
    lines = "".join(write_documents([draw(st.dictionaries(st.sampled_from("abc"), block_data, min_size=1))])).split(
        "\n"
    )
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(lines)))
        lines[start : start + draw(st.integers(0, 1))] = draw(st.lists(block_line, max_size=1))
    return "\n".join(lines)


@given(block_texts())
@example("a:\n- b: 1\n  c:\n    a: 2\n- b: 3\nb:\n  - x\n  - y\n# end\n")
@example("a:\n  - x\n b: 1")
@example("a:\n- x\n  b: 1")
@example("a: 1\n  b: 2")
@example("a:\n")
@example("a:\n" + "".join(f"{'  ' * depth}b:\n" for depth in range(1, 40)) + "  " * 40 + "c: 1")
def test_plain_blocks_are_read_as_libyaml_reads_them(text: str) -> None:
    data = read_block(text)
    if data is None:
        return
    builder = Builder(text, 1, "x")
    assert repr(builder.build()) == repr(data)
    assert builder.problems == []


def test_plain_blocks_need_no_libyaml() -> None:
    assert read_block("---\n# c\na:\n- b: 1.5\n  c: 'x: y'\n- b: \"#\"\nd:\n  e: http://f:80/\n") == {
        "a": [{"b": 1.5, "c": "x: y"}, {"b": "#"}],
        "d": {"e": "http://f:80/"},
    }
