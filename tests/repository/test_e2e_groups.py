"""Groups of end-to-end cases that exclude each other: each entry exists, and a test's name counts only in its case."""

import pytest

pytest.importorskip("trustme", reason="the e2e group is not installed: make e2e installs it")

from e2e.conftest import WHOLE, whole
from e2e.paths import HERE


@pytest.mark.parametrize("entry", sorted(entry for entries in WHOLE.values() for entry in entries))
def test_each_entry_is_a_case_or_a_test(entry: str) -> None:
    folder, _, test = entry.partition("::")
    files = [*(HERE / "cases" / folder).glob("test_*.py")]

    assert any(f"def {test}(" in file.read_text() for file in files) if test else files


def test_two_cases_may_have_a_test_of_one_name() -> None:
    assert whole("e2e/cases/22-operate/test_operate.py::test_doctor") == "cluster"
    assert whole("e2e/cases/35-kueue/test_kueue.py::test_doctor") == "devices"
    assert whole("e2e/cases/22-operate/test_operate.py::test_why") == ""
