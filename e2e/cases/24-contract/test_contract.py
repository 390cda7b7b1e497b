"""The real cluster keeps the contract that the simulated one is held to, and what was applied shows no difference."""

import pytest

from e2e.contract import held
from e2e.stage import Stage


@pytest.mark.parametrize(
    ("file", "choice"),
    [("cluster/test_cluster_contract.py", "real"), ("cli/test_apply_real.py", "")],
    ids=["cluster", "differences"],
)
def test_contract(stage: Stage, file: str, choice: str) -> None:
    stage.report(said=held(stage, file, choice))
