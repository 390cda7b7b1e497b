"""The mutants: what is changed, and that their tables name what exists."""

from __future__ import annotations

import pytest

from mutants import changes, run, tables
from tiers import PACKAGE, ROOT


@pytest.mark.parametrize(
    ("expression", "changed"),
    [
        ("a < b", {"(a <= b)"}),
        ("a == b and not c", {"(a == b or not c)", "(a != b) and not c", "a == b and (c)"}),
        ("a + 2", {"(a - 2)", "a + 3"}),
        ("f(True)", {"f(False)"}),
        ("min(a, b)", {"(max(a, b))", "(a)", "(b)"}),
        ("f(x=a)", {"(f())"}),
        ("zip(a, b, strict=True)", {"zip(a, b, strict=False)"}),
        ("a if b > c else d", {"a if (b >= c) else d", "a if (not (b > c)) else d"}),
        ("any(a for b in c if d is e)", {"(all((a for b in c if d is e)))", "any(a for b in c if (d is not e))"}),
        ("f'{a + b}'", set()),
    ],
)
def test_each_change_of_an_expression(expression: str, changed: set[str]) -> None:
    source = "def é():\n    return {}\n"
    mutants = changes.list_mutants("m.py", source.format(expression).encode())
    assert {mutant.apply(source.format(expression).encode()).decode() for mutant in mutants} == {
        source.format(text) for text in changed
    }


def test_each_change_of_a_statement() -> None:
    source = b"def f(a):\n    g(a)\n    for b in a:\n        a.b = 0\n        a += b\n        continue\n    return a\n"
    mutants = changes.list_mutants("m.py", source)
    assert {(mutant.before.partition(":")[0], mutant.after) for mutant in mutants} == {
        ("g(a)", "pass"), ("for b in a", "return"), ("a.b = 0", "pass"), ("a += b", "pass"), ("continue", "break"), ("0", "1"),
    }  # fmt: skip


def test_a_seed_selects_the_same_mutants_in_equal_shares() -> None:
    sample = run.sample_mutants(["floor", "endpoint"], 5, 7)
    assert sample == run.sample_mutants(["floor", "endpoint"], 5, 7)
    assert sample != run.sample_mutants(["floor", "endpoint"], 5, 8)
    assert [mutant.module == "core/autoscaler/floor.py" for mutant in sample] == [True, True, False, False, False]


def test_the_tables_name_what_exists() -> None:
    names = set()
    for pattern in {pattern for patterns in tables.GROUPS.values() for pattern in patterns}:
        paths = [*(ROOT / PACKAGE).glob(pattern)]
        assert paths, pattern
        for path in paths:
            module = str(path.relative_to(ROOT / PACKAGE))
            assert run.find_nearest(module)
            names |= {str(mutant) for mutant in changes.list_mutants(module, path.read_bytes(), known=())}
    assert tables.EQUIVALENT.keys() <= names
    for test in (word for runs in tables.NEAREST.values() for tests in runs for word in tests.split()):
        file, _, name = test.removeprefix("--deselect=").removeprefix("tests/").partition("::")
        if not test.startswith("-k"):
            assert f"def {name.partition('[')[0]}" in (ROOT / "tests" / file).read_text(), test
