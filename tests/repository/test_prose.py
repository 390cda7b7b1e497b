"""The prose linter: the texts that it finds in files, and the sentences that its rules report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from text import prose
from text.markup import comment_texts, script_texts, template_texts, yaml_texts
from text.strings import Text, python_texts

if TYPE_CHECKING:
    from pathlib import Path


def list_texts(texts: list[Text]) -> list[tuple[str, int, str]]:
    return sorted((text.scope, text.span[0], " / ".join(line for _, line in text.lines)) for text in texts)


def test_docstrings_are_found_at_modules_classes_functions_and_attributes() -> None:
    source = '''r"""Module."""
class A:
    """First line.

    Second paragraph, with ``code`` in it.
    """

    size: int
    """Size in bytes."""

    async def run(self):
        """Run."""
'''

    assert list_texts(list(python_texts("a.py", source, strings=True))) == [
        ("docstrings", 1, "Module."),
        ("docstrings", 3, "First line. / ¶ / Second paragraph, with ``xxxx`` in it."),
        ("docstrings", 9, "Size in bytes."),
        ("docstrings", 12, "Run."),
    ]


def test_a_docstring_is_read_without_its_code() -> None:
    source = (
        '"""Sum up.\n\n    >>> total(nobody)\n    3\n\nSee ``a.b`` and platform/ebbtide/core/base or os.path.\n"""\n'
    )

    assert list_texts(list(python_texts("a.py", source, strings=True))) == [
        ("docstrings", 1, "Sum up. / ¶ / ¶ / ¶ / ¶ / See ``x.x`` and xxxxxxxx/xxxxxxx/xxxx/xxxx or xx.xxxx."),
    ]


def test_comments_below_each_other_are_one_text_and_directives_are_none() -> None:
    source = """#!/usr/bin/env python
#: One sentence
#: on two lines.
x = 1  # beside code
y = 2  # noqa: E501 - the reason
# type: ignore
"""

    assert list_texts(list(python_texts("a.py", source, strings=False))) == [
        ("comments", 2, "One sentence / on two lines."),
        ("comments", 4, "beside code"),
        ("comments", 5, "the reason"),
    ]


def test_strings_have_words_and_values_are_neutral() -> None:
    source = """key = "spec.image"
label = "Replicas"
raise ValueError(f"{name!r} is not a {'whole number' if whole else kind}: use"
                 f" {low:>3}")
text = '''First line
of two'''
"""

    assert list_texts(list(python_texts("a.py", source, strings=True))) == [
        ("strings", 2, "Replicas"),
        ("strings", 3, "whole number"),
        ("strings", 3, "{…} is not a {…}: use {…}"),
        ("strings", 5, "First line / of two"),
    ]


def test_a_template_gives_text_spoken_attributes_literals_and_comments() -> None:
    source = """{# How it
looks. #}
<p title="{{ name }} is here">Pods of <b>{{ name }}</b>, <code>kubectl get</code>
{% if few %}one{% else %}many{% endif %}</p><{{ "details" if x else "section" }} class="a b">
<button aria-label="Close it" hidden>{{ notice("Nothing was found.") }}</button>
<style>a { color: red blue }</style><script>say("It is done"); // as asked</script>
"""

    assert list_texts(list(template_texts("a.html", source))) == [
        ("comments", 1, "How it / looks."),
        ("comments", 6, "as asked"),
        ("strings", 6, "It is done"),
        ("templates", 3, "Pods of {…}, `xxxxxxx xxx` / one / many"),
        ("templates", 3, "{…} is here"),
        ("templates", 5, "Close it"),
        ("templates", 5, "Nothing was found."),
    ]


def test_a_script_gives_strings_and_nested_templates_but_no_patterns() -> None:
    source = """/* Block
 * comment. */
const a = /no "string" here/.test(b) ? 'It\\'s a string' : c / d / "also text";
say(`Held, ${n} new line${n === 1 ? "" : `s and ${"more words"}`} in {all}`);
"""

    assert list_texts(list(script_texts("a.js", source))) == [
        ("comments", 1, "Block / comment."),
        ("strings", 3, "It\\'s a string"),
        ("strings", 3, "also text"),
        ("strings", 4, "Held, {…} new line{…} in {all}"),
        ("strings", 4, "more words"),
        ("strings", 4, "s and {…}"),
    ]


def test_yaml_gives_comments_and_values_that_people_read() -> None:
    source = """# Limits of
# a project.
kind: "a # b"   # not a comment in quotes
spec:
  validations:
  - expression: one two
    message: Set a limit.
    description: |
      First line
      and second.
"""

    assert list_texts([*comment_texts("a.yaml", source, "#"), *yaml_texts("a.yaml", source)]) == [
        ("comments", 1, "Limits of / a project. / not a comment in quotes"),
        ("strings", 7, "Set a limit."),
        ("strings", 9, "First line / and second."),
    ]


def test_a_line_with_a_reason_is_excused(tmp_path: Path) -> None:
    (tmp_path / "platform").mkdir()
    source = 'a = "no such host"  # prose: Go\'s words\nb = "no such name"\n\n\ndef f():\n    """X y."""  # prose: as above\n'
    (tmp_path / "platform/a.py").write_text(source)

    texts, _ = prose.collect(tmp_path, ["platform/a.py"])

    assert list_texts(texts) == [("strings", 2, "no such name")]


vale = pytest.mark.skipif(not prose.VALE.exists(), reason="Vale not built: make vale")


@vale
def test_a_phrase_is_found_across_lines_but_not_across_texts() -> None:
    texts = [
        Text("comments", "a.py", ((1, "The user is"), (2, "told."))),
        Text("comments", "a.py", ((5, "The user is"),)),
        Text("comments", "a.py", ((9, "told."),)),
    ]

    assert [(alert.line, alert.text) for alert in prose.lint(texts, [])] == [(1, 0)]


@vale
def test_markdown_is_linted_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# What it is\n\nThe user is\ntold. `mend`\n\n```sh\nmend\n```\n")

    assert [(alert.line, alert.rule) for alert in prose.lint([], [str(page)])] == [(3, "Ebbtide.Glossary")]
