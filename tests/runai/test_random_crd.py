"""Random bodies in the form of Run:ai's custom resource: ``ebbtide check`` accepts or rejects each one as the functions do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import strategies
from ebbtide.core import manifests
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import Batch

if TYPE_CHECKING:
    from pathlib import Path

NUMBER = 300
#: Documents of one call of the command line.
PER_CALL = 10


def test_the_command_line_accepts_the_same_bodies_as_classic_yaml(tmp_path: Path) -> None:
    """One call over a folder: no traceback, and each document is either counted as translated or has an error."""
    profile = profiles.load_built_in("full")
    expected = 0
    named: set[str] = set()
    for seed in range(NUMBER):
        classic = strategies.classic_of(strategies.random_rest(strategies.dice(seed)))
        name = f"{seed:03}.yaml"
        text = manifests.write_document(classic)
        # One call lists at most a hundred problems.
        folder = tmp_path / str(seed // PER_CALL)
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        read = list(manifests.read_documents(text.encode(), name))
        assert [document.data for document in read] == [classic], seed
        loaded = load_document(classic, profile)
        translation = Batch(profile).add_document(loaded)[1]
        if translation is None or not translation.objects:
            named.add(name)
        else:
            expected += 1

    failed: set[str] = set()
    for folder in tmp_path.iterdir():
        ran = subprocess.run(
            [sys.executable, "-m", "ebbtide", "check", "-o", "json", "--profile", "full", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.stderr == ""
        failed |= {
            problem["document"].rpartition("/")[2].partition("#")[0]
            for problem in json.loads(ran.stdout)
            if problem["severity"] == "error" and problem["code"] != "NAM004"
        }
    assert {name for name in failed if name} == named
    assert expected > NUMBER * 0.3, f"only {expected} of {NUMBER} classic documents translate"
