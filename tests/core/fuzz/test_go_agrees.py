"""The reader accepts no text that kubectl rejects or reads differently; the writer's output is read back unchanged.

The reference is Go's own code. All short strings are tested, because random strings missed defects in a hundred thousand
cases. ``EBBTIDE_FUZZ=long`` tests many more.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ebbtide.core.manifests import read_documents, write_documents, write_json
from ebbtide.core.manifests.scalars import AMBIGUOUS, Refusal, resolve_scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ebbtide.core.base.problems import Problem

    Judge = Callable[[list[str]], list[dict[str, Any]]]

LONG = os.environ.get("EBBTIDE_FUZZ") == "long"
BATCH = 2_000

#: Digits of every base, signs, points, exponents, prefixes, base 60, and the letters of inf, nan, no, on.
NUMBER_LIKE = "0178_-+.eExob:inf"
FEW_NUMBER_LIKE = "01_-.ex:"

SPEC = """\
# a workload
kind: Inference
name: chat
project: team-a
image: "registry.example.com/models/llama:1.2.3"
compute: {gpuDevicesRequest: 1, gpuRequestType: portion, gpuPortionRequest: 0.25}
autoscaling:
  minReplicas: 0
  maxReplicas: 4
  metricThreshold: 1.5
environmentVariables:
- name: A
  value: '1'
- name: B
  value: |
    two
    lines
- name: C
  value: >-
    folded
    text
command:
  - sh
  - -c
  - "echo \\"hi\\""
annotations: {}
---
kind: Inference
name: other
suspend: false
note: null
"""

#: Text that mutations insert: YAML's indicators, and values on which parsers differ.
SNIPPETS = (
    *"{}[],:?-&*!|>'\"%@`#\n\r\t \\~=<.0y",
    *(
        "---",
        "\n---\n",
        "\n...\n",
        "- ",
        ": ",
        "? ",
        " #",
        "&a ",
        "*a",
        "!!str ",
        "! ",
        "<<",
        "<<: ",
        "%YAML 1.2\n",
    ),
    *(
        "\n\t",
        "\r\n",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x7f",
        "\xa0",
        "é",
        "😀",
        "\\u2028",
        "\\x41",
        "|+\n",
        ">2\n",
        "|-",
    ),
    *(
        "yes",
        "on",
        "null",
        "0o7",
        "07",
        "1e3",
        "1_0",
        "12:30",
        "2001-01-01",
        ".inf",
        "0x1F",
        "9" * 20,
        "-0",
        "1.",
    ),
    *(
        "a: 1\n",
        "name: chat\n",
        "[1, 2]",
        "{a: b}",
        "[a: b]",
        "{a, b}",
        "k" * 1030,
        "  ",
        "\n\n",
        '"x"',
        "'x'",
    ),
)

WORDS = (
    *(
        "null",
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "~",
        "",
        "inf",
        "nan",
        ".inf",
        "-.inf",
        "+.inf",
        ".nan",
    ),
    *(
        "=",
        "<<",
        "-",
        "--",
        "---",
        "...",
        "--- a",
        "... a",
        "?",
        ":",
        ": ",
        "a:",
        "a: b",
        "- a",
        "? a",
        "#",
        " #",
        "a #b",
    ),
)
NUMBERS = (
    *(
        "0",
        "-0",
        "+1",
        "007",
        "08",
        "0o17",
        "0O17",
        "0b11",
        "-0b1",
        "0b-1",
        "0x1F",
        "-0x1f",
        "0x_1",
        "1_000",
        "-_7",
        "0_o3",
    ),
    *(
        "1e3",
        "1E3",
        "1.e3",
        ".5",
        "-.5",
        "+.5",
        ".5_0",
        "1.5e+3",
        "1e400",
        "-1e400",
        "1234e56",
        "12e03",
        "1:30",
        "12:30:45",
    ),
    *(
        "190:20:30.15",
        "2001-01-01",
        "2001-1-1",
        "2001-12-14t21:59:43.10-05:00",
        "2001-12-14 21:59:43.10 -5",
        "1,000",
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "9" * 400,
        "1.2.3",
        "10Gi",
        "500m",
        "1.27",
    ),
)
CHARACTERS = (
    *map(chr, range(0x100)),
    *"\u2028\u2029\u200b\ufeff\ufffe\uffff\ufffd\ue000😀\U0001fffe\U0010ffff",
)
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r"

NASTY = tuple(
    dict.fromkeys(
        [
            *WORDS,
            *(word.upper() for word in WORDS),
            *(word.capitalize() for word in WORDS),
            *NUMBERS,
            *(f" {text}" for text in (*WORDS, *NUMBERS)),
            *(f"{text} " for text in (*WORDS, *NUMBERS)),
            *(f"{text}\n" for text in (*WORDS, *NUMBERS)),
            *CHARACTERS,
            *(f"a{character}b" for character in CHARACTERS),
            *(
                form.replace("@", sign)
                for sign in PUNCTUATION
                for form in ("@a", "a@", "a@ b", "a @b", "@ a", "1@", "@1")
            ),
            *(
                "a\n\nb\n",
                "\n",
                " \n ",
                "a\r\nb",
                "\ta",
                "a\t",
                "\\",
                '\\"',
                "'",
                "''",
                "x" * 2000,
                "a b " * 500,
            ),
        ]
    )
)


def same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal: a boolean is never a number, and 1.0 equals 1 as in JSON."""
    if isinstance(ours, dict):
        return (
            isinstance(theirs, dict)
            and ours.keys() == theirs.keys()
            and all(same(value, theirs[key]) for key, value in ours.items())
        )
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, bool) or isinstance(theirs, bool) or ours is None:
        return ours is theirs
    if isinstance(ours, int | float) != isinstance(theirs, int | float):
        return False
    # Go writes a float such as 2.5e19 without a point or an exponent, as JSON allows.
    return bool(ours == (float(theirs) if isinstance(ours, float) else theirs))


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Return a function that returns how Go's code reads texts."""
    built = Path(__file__).parents[3] / "tools" / "judge" / "bin" / "judge"
    program = Path(os.environ.get("EBBTIDE_JUDGE", built))
    if not program.is_file():
        pytest.skip("judge not built: make judge")

    def ask(texts: list[str]) -> list[dict[str, Any]]:
        requests = [
            json.dumps({"id": start, "kind": "yaml", "texts": texts[start : start + BATCH]})
            for start in range(0, len(texts), BATCH)
        ]
        done = subprocess.run([program], input="\n".join(requests).encode(), capture_output=True, check=True)
        answers = [json.loads(line) for line in done.stdout.split(b"\n") if line]
        answers.sort(key=lambda answer: answer["id"])
        verdicts = [verdict for answer in answers for verdict in answer["texts"]]
        assert len(verdicts) == len(texts)
        return verdicts

    return ask


def strings(alphabet: str, longest: int) -> Iterator[str]:
    """Yield all strings over an alphabet, shortest first."""
    for length in range(1, longest + 1):
        for letters in itertools.product(alphabet, repeat=length):
            yield "".join(letters)


def exhaustive() -> list[str]:
    """Return every short string that looks like a number, and every word in all combinations of case."""
    words = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "<<", "=", "nan", "inf")
    cased = {
        "".join(letters)
        for word in words
        for lead in ("", ".", "-", "+", "-.", "+.")
        for letters in itertools.product(*({letter, letter.upper()} for letter in lead + word))
    }
    texts = dict.fromkeys([*strings(NUMBER_LIKE, 5 if LONG else 4), *cased])
    if LONG:
        texts |= dict.fromkeys(strings(FEW_NUMBER_LIKE, 6))
    return list(texts)


def sampled(count: int) -> list[str]:
    """Return longer strings of the same characters, including dates and more words."""
    dice = random.Random(1)  # noqa: S311  (repeatable on purpose)
    letters = "0123456789_-+.eExXoObB:aAfFtTzZ yYnN~pP"
    parts = (*NUMBERS, *WORDS[:17], *letters)
    texts = ("".join(dice.choices(parts, k=dice.randint(1, 4))) for _ in range(count // 2))
    more = ("".join(dice.choices(letters, k=dice.randint(5, 10))) for _ in range(count // 2))
    return [text for text in (*texts, *more) if "\n" not in text]


def disagreements(texts: list[str], verdicts: list[dict[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each text that is accepted here and that Go rejects or reads differently."""
    for text, verdict in zip(texts, verdicts, strict=True):
        documents = list(read_documents(text, "fuzz"))
        if any(document.problems for document in documents) or is_json(text):
            continue
        ours = [document.data for document in documents]
        if not verdict["ok"] or not same(ours, verdict["docs"]):
            yield text, ours, verdict


def problems(text: str) -> list[Problem]:
    """Return all problems that the reader reports for a text."""
    return [problem for document in read_documents(text, "fuzz") for problem in document.problems]


def is_json(text: str) -> bool:
    """Return whether kubectl would read the text as JSON, to which Go's YAML reader does not apply."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return text.lstrip().startswith(("{", "["))


def test_every_short_scalar_has_the_same_value_in_go(judge: Judge) -> None:
    texts = [f"a: {text}\n" for text in exhaustive()]
    assert list(disagreements(texts, judge(texts))) == []


def test_every_longer_scalar_has_the_same_value_in_go(judge: Judge) -> None:
    texts = [f"a: {text}\n" for text in sampled(400_000 if LONG else 40_000)]
    assert list(disagreements(texts, judge(texts))) == []


def test_every_key_is_the_same_in_go(judge: Judge) -> None:
    texts = [f"{text}: a\n" for text in sampled(20_000)]
    assert list(disagreements(texts, judge(texts))) == []


def test_every_scalar_has_the_same_value_in_yaml_1_1() -> None:
    wrong = []
    for text in (*exhaustive(), *sampled(20_000)):
        line = f"a: {text}\n"
        documents = list(read_documents(line, "fuzz"))
        if any(document.problems for document in documents):
            continue
        # The C scanner with the resolver and constructors of SafeLoader.
        theirs = list(yaml.load_all(line, Loader=yaml.CSafeLoader))
        if not same([document.data for document in documents], theirs):
            wrong.append((line, documents, theirs))
    assert wrong == []


def test_every_scalar_has_the_same_value_in_yaml_1_2() -> None:
    """The reference is the core schema in table 10.3.2 of the specification."""
    wrong = [
        (text, value)
        for text in (*exhaustive(), *sampled(20_000))
        if not isinstance(value := resolve_scalar(text), Refusal) and not same(value, core_schema(text))
    ]
    assert wrong == []


def core_schema(text: str) -> Any:
    """Return the value of a plain scalar in YAML 1.2."""
    rules: tuple[tuple[str, Callable[[str], Any]], ...] = (
        (r"null|Null|NULL|~|", lambda _: None),
        (r"true|True|TRUE", lambda _: True),
        (r"false|False|FALSE", lambda _: False),
        (r"[-+]?[0-9]+", int),
        (r"0o[0-7]+|0x[0-9a-fA-F]+", lambda digits: int(digits, 0)),
        (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
        (r"[-+]?(\.inf|\.Inf|\.INF)", lambda _: float("inf")),
        (r"\.nan|\.NaN|\.NAN", lambda _: float("nan")),
    )
    return next((make(text) for rule, make in rules if re.fullmatch(rule, text)), text)


def test_most_scalars_are_accepted() -> None:
    """A reader that rejects everything would pass the other tests."""
    ordinary = [
        "chat",
        "10Gi",
        "500m",
        "1.27.3",
        "10.0.0.1",
        "30s",
        "-c",
        "--port=8080",
        "a:b",
        "0.25",
        "8",
        "-1",
    ]
    assert [text for text in ordinary if next(read_documents(f"a: {text}\n", "x")).problems] == []
    texts = exhaustive()
    refused = sum(resolve_scalar(text) is AMBIGUOUS for text in texts)
    assert refused / len(texts) < 0.12


def mutated(dice: random.Random) -> str:
    """Return the specs with a few random changes of characters, lines or snippets."""
    text = SPEC
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(text) + 1)
        match dice.randrange(6):
            case 0:
                text = text[:at] + dice.choice(SNIPPETS) + text[at:]
            case 1:
                text = text[:at] + text[at + dice.randint(1, 3) :]
            case 2:
                text = text[:at] + dice.choice(SNIPPETS) + text[at + 1 :]
            case 3:
                lines = text.splitlines(keepends=True)
                lines.insert(dice.randrange(len(lines)), dice.choice(lines))
                text = "".join(lines)
            case 4:
                lines = text.splitlines(keepends=True)
                line = dice.randrange(len(lines))
                lines[line] = " " * dice.randint(0, 3) + lines[line].lstrip()
                text = "".join(lines)
            case _:
                start = text.find(": ", at) + 2
                text = text[:start] + dice.choice(SNIPPETS) + text[start:]
    return text


def test_no_mutated_spec_is_accepted_that_go_rejects_or_reads_differently(judge: Judge) -> None:
    dice = random.Random(2)  # noqa: S311  (repeatable on purpose)
    texts = [mutated(dice) for _ in range(60_000 if LONG else 8_000)]
    verdicts = judge(texts)
    assert list(disagreements(texts, verdicts)) == []
    taken = sum(not any(document.problems for document in read_documents(text, "x")) for text in texts)
    accepted = sum(verdict["ok"] for verdict in verdicts)
    assert taken > accepted / 2


def as_written(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return objects that contain each text as a value, a key, and an item, at several depths."""
    return [{"value": text, text + "k": {text: [text, [text], {text: None}]}, "last": {"": text}} for text in texts]


def test_go_reads_every_nasty_string_as_it_was_written(judge: Judge) -> None:
    objects = as_written(NASTY)
    assert len(objects) > 496
    verdicts = judge(list(write_documents(objects)))
    wrong = [(item, verdict) for item, verdict in zip(objects, verdicts, strict=True) if verdict["docs"] != [item]]
    assert wrong == []


def test_go_reads_a_stream_and_a_list_as_they_were_written(judge: Judge) -> None:
    # kubectl reads the list as JSON; Go's YAML reader, the reference here, requires keys of less than 1,024 characters.
    objects = as_written(text for text in NASTY if len(text) < 1_000)
    stream, listed = judge(["".join(write_documents(objects)), write_json(objects)])
    assert stream["docs"] == objects
    assert listed["docs"] == [{"apiVersion": "v1", "kind": "List", "items": objects}]


def test_go_reads_every_number_as_it_was_written(judge: Judge) -> None:
    dice = random.Random(3)  # noqa: S311  (repeatable on purpose)
    floats = [dice.uniform(-1, 1) * 10 ** dice.randint(-320, 300) for _ in range(2_000)]
    numbers = [
        0,
        -1,
        2**63 - 1,
        -(2**63),
        0.0,
        -0.0,
        1.0,
        0.1,
        1e22,
        1e-7,
        5e-324,
        1.7976931348623157e308,
        *floats,
    ]
    objects = [{"number": number} for number in numbers]
    (verdict,) = judge(["".join(write_documents(objects))])
    assert same(objects, verdict["docs"])


def test_python_reads_every_nasty_string_as_it_was_written() -> None:
    objects = as_written(NASTY)
    text = "".join(write_documents(objects))
    assert list(yaml.load_all(text, Loader=yaml.CSafeLoader)) == objects
    documents = list(read_documents(text, "x"))
    assert [document.data for document in documents] == objects
    assert not any(document.problems for document in documents)
