"""The proof of the tiers' independence counts what ran, and leaves out whole folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tiers

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """<testsuites><testsuite>
<testcase classname="tests.core.test_a" name="test_one[x]"/>
<testcase classname="tests.core.test_a" name="test_one[y]"><failure/></testcase>
<testcase classname="tests.core.test_a" name="test_two"><skipped/></testcase>
<testcase classname="" name="tests.core.test_b"><skipped/></testcase>
</testsuite></testsuites>"""


def test_a_copy_has_the_tracked_files_without_the_absent_tiers(tmp_path: Path) -> None:
    tiers.copy_checkout(tmp_path, ("server", "cli"))

    assert {path.name for path in (tmp_path / tiers.PACKAGE).iterdir() if path.is_dir()} == {
        "core", "simulator", "cluster", "runai", "sandbox",
    }  # fmt: skip
    assert (tmp_path / "tests" / "server").is_dir()
    assert not (tmp_path / ".venv").exists()


def test_a_function_ran_if_one_of_its_cases_passed(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    (tmp_path / "test_a.py").write_text("def test_one(): ...\ndef test_two(): ...\ndef helper(): ...\n")

    assert tiers.list_passed(report) == {"test_a.test_one"}
    assert tiers.list_defined(tmp_path) == {"test_a.test_one", "test_a.test_two"}
    assert tiers.list_defined(tmp_path / "test_a.py") == tiers.list_defined(tmp_path)


def test_a_proof_fails_if_too_few_tests_run_or_a_message_differs(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_one(): ...\ndef test_two(): ...\n")
    proof = tiers.Proof("x", (), {"test_a.py": 0.5}, {"serve": "serve needs y"})
    message = f"ebbtide: error: serve needs y, {tiers.ABSENT}\n"

    assert tiers.judge(proof, tmp_path, {"test_a.test_one"}, {"serve": (2, message)}) == []
    (error,) = tiers.judge(proof, tmp_path, set(), {"serve": (2, message)})
    assert error == "x: test_a.py: expected at least 50% of 2, and 0 ran"
    for answer in ((1, message), (2, "Traceback")):
        (error,) = tiers.judge(proof, tmp_path, {"test_a.test_one"}, {"serve": answer})
        assert error.startswith("x: ebbtide serve: expected (2, 'ebbtide: error: serve needs y, ")


def test_every_proof_states_a_share_of_what_exists() -> None:
    for proof in tiers.PROOFS:
        assert proof.absent
        for path in (*proof.shares, *tiers.LONG):
            assert (tiers.ROOT / path).exists(), path
        assert all(0.5 < share <= 1 for share in proof.shares.values())
