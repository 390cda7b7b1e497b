"""Every problem code is documented once, used, and covered by a golden case or by a named test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ebbtide.cli import main
from ebbtide.core.documents import load_document, profiles
from ebbtide.core.documents.check import MANY_SERVICES, Batch
from ebbtide.core.documents.explain import explain_document
from ebbtide.core.documents.problem_texts import read_problem_texts
from ebbtide.core.profile.built_in import FULL

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "platform" / "ebbtide"
PAGE = ROOT / "docs" / "reference" / "problems.md"
CODES = read_problem_texts()
QUOTED = re.compile(r'"([A-Z]{3,5}[0-9]{3})"')
#: Codes that no spec and profile can cause, and the test file that covers each.
ELSEWHERE = {
    "FIL001": "repository/test_codes.py",
    "DOC074": "cluster/test_doctor.py",
    "DOC075": "cluster/test_doctor.py",
    "DOC202": "cluster/test_queues.py",
    "DOC208": "cluster/test_doctor.py",
    "FIL052": "server/attacks/test_availability.py",
    "FIL057": "repository/test_codes.py",
    "FIL058": "cli/test_cli.py",
    "IGN001": "repository/test_codes.py",
    "IMP079": "cli/test_cli.py",
    "CNV001": "repository/test_codes.py",
    "CNV002": "repository/test_codes.py",
    "CNV003": "repository/test_codes.py",
    "CNV074": "core/test_convert.py",
    "SRV073": "core/test_convert.py",
    "IMP010": "core/test_intake_branches.py",
    "IMP011": "cli/test_cli.py",
    "IMP012": "core/test_deployments.py",
    "IMP013": "core/test_deployments.py",
    "IMP014": "core/test_deployments.py",
    "RUN050": "runai/test_importing.py",
    "PRF001": "repository/test_codes.py",
    "PRF002": "repository/test_codes.py",
    "PRF003": "repository/test_codes.py",
    "PRF004": "repository/test_codes.py",
    "PRF065": "core/test_profiles.py",
    "PRF213": "core/test_profiles.py",
    "FLAGS001": "runai/test_intake_flags.py",
    "FLAGS002": "runai/test_intake_flags.py",
    "FLAGS003": "runai/test_intake_flags.py",
    "FLAGS004": "runai/test_intake_flags.py",
    "FLAGS005": "runai/test_intake_flags.py",
    "FLAGS006": "runai/test_intake_flags.py",
    "FLAGS046": "runai/test_intake_flags.py",
    "FLAGS192": "runai/test_intake_flags.py",
    "TRF001": "simulator/test_simulate_load.py",
    "TRF002": "simulator/test_simulate_load.py",
    "TRF003": "simulator/test_simulate_load.py",
    "TRF004": "simulator/test_simulate_load.py",
    "TRF005": "simulator/test_simulate_load.py",
    "TRF006": "simulator/test_simulate_load.py",
    "TRF007": "simulator/test_simulate_load.py",
    "SIM001": "cli/test_cli_simulate.py",
    "SIM002": "cli/test_cli_simulate.py",
    "SIM003": "cli/test_cli_simulate.py",
    "SIM004": "server/test_api_server.py",
    "REQ001": "server/test_api_server.py",
    "RUN002": "runai/test_intake_flags.py",
    "SEC003": "cli/test_cli.py",
    "SEC006": "runai/test_intake_flags.py",
    "SPEC007": "core/test_core.py",
    **{
        f"DOC{number:03}": "cluster/test_doctor.py"
        for number in (
            *range(1, 17),
            *range(18, 24),
            *range(25, 28),
            *(38, 47, 48, 57, 70, 71, 72, 73, 74, 75, 138, 139, 158, 189, 190),
            *range(197, 201),
            *range(203, 207),
        )
    },
    **{f"RES{number:03}": "cluster/test_crd.py" for number in range(61, 65)},
    "TUN001": "cli/test_cli_simulate.py",
    "TUN002": "cli/test_cli_simulate.py",
    **{f"PLN{number:03}": "cli/test_cli_fleet.py" for number in range(1, 7)},
    "RPT001": "cli/test_cli_report.py",
}
SPEC: dict[str, Any] = {
    "apiVersion": "ebbtide.dev/v1alpha1",
    "kind": "Inference",
    "metadata": {"name": "chat"},
    "spec": {"image": "ghcr.io/acme/chat:1", "servingPort": {"container": 8000}},
}


def used_in(files: Iterable[Path]) -> set[str]:
    return {code for file in files for code in QUOTED.findall(file.read_text())}


def test_the_package_and_the_page_have_the_same_codes() -> None:
    used = used_in(PACKAGE.rglob("*.py"))

    assert sorted(used - set(CODES)) == []
    assert sorted(set(CODES) - used) == []


def test_every_section_of_the_page_is_parsed_and_no_code_occurs_twice() -> None:
    headings = re.findall(r"^###.*$", PAGE.read_text(), re.MULTILINE)

    assert sorted(headings) == [f"### {code}" for code in sorted(CODES)]


def test_each_family_of_codes_has_one_heading() -> None:
    parts = PAGE.read_text().split("\n## ")
    families = [family for part in parts for family in set(re.findall(r"^### ([A-Z]+)[0-9]{3}$", part, re.MULTILINE))]

    assert len(families) == len(parts) - 1
    assert len(families) == len(set(families))


def test_a_text_is_parsed_without_markdown_escapes() -> None:
    assert "the pattern [a-zA-Z_:][a-zA-Z0-9_:]*, which" in CODES["AUT008"].meaning
    assert "a revision <name>-00001 and" in CODES["NAM002"].meaning


def test_the_tree_has_one_copy_of_the_page() -> None:
    carried = PACKAGE / "core" / "base" / "problems.md"

    assert carried.is_symlink()
    assert carried.resolve() == PAGE


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.code)
def test_a_code_has_a_title_an_explanation_and_a_fix(code: Any) -> None:
    assert code.title
    assert not code.title.endswith(".")
    assert code.meaning.endswith(".")
    assert code.fix.endswith(".")


def test_every_code_is_covered_by_a_golden_case_or_a_listed_test() -> None:
    homes = (ROOT / "tests" / "golden", ROOT / "tests" / "examples")
    golden_codes = {
        code
        for home in homes
        for file in home.glob("*/problems.yaml")
        for code in re.findall(r"code: (\S+)$", file.read_text(), re.MULTILINE)
    }

    assert sorted(set(CODES) - golden_codes - set(ELSEWHERE)) == [], "these need a golden case"
    assert sorted(golden_codes & set(ELSEWHERE)) == [], "these have a golden case: remove them from the list"
    assert sorted(set(ELSEWHERE) - set(CODES)) == []


@pytest.mark.parametrize(("code", "file"), ELSEWHERE.items())
def test_a_listed_test_file_contains_its_code(code: str, file: str) -> None:
    path = ROOT / "tests" / file

    assert path.exists()
    assert path.read_text().count(f'"{code}"') >= (2 if path == Path(__file__) else 1)


def profile_with(**spec: Any) -> dict[str, Any]:
    return {**FULL, "spec": {**FULL["spec"], **spec}}


def codes_of(problems: Iterable[Any]) -> list[str]:
    return [problem.code for problem in problems]


def test_a_missing_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(tmp_path / "gone.yaml")])

    assert code == 1
    assert "FIL001" in capsys.readouterr().out


def test_an_input_that_is_too_large_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as stream:
        stream.truncate(64 * 2**20 + 1)
    code = main(["check", str(file)])

    assert code == 1
    assert "FIL057" in capsys.readouterr().out


def test_a_missing_or_empty_profile_is_reported(tmp_path: Path) -> None:
    empty = tmp_path / "profile.yaml"
    empty.write_text("")

    assert codes_of(profiles.load_profile(str(tmp_path / "gone"))[1]) == ["PRF001"]
    assert codes_of(profiles.load_profile(str(empty))[1]) == ["PRF001"]


def test_an_invalid_configmap_setting_is_reported() -> None:
    _, problems = profiles.validate_profile_data(
        profile_with(
            knative={
                "autoscaler": {"max-scale-limit": "many"},
                "features": {
                    "kubernetes.podspec-tolerations": "yes please",
                    "kubernetes.podspec-other": "enabled",
                },
            }
        )
    )

    assert sorted(codes_of(problems)) == ["PRF002", "PRF002", "PRF003"]


def test_a_node_pool_without_a_required_setting_is_reported() -> None:
    _, problems = profiles.validate_profile_data(profile_with(nodePools=[{"name": "a", "backend": "time-slicing"}]))

    assert "PRF004" in codes_of(problems)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max-scale-limit": "20"}, "max-scale is not set"),
        ({"max-scale-limit": "20", "max-scale": "30"}, "max-scale is 30"),
    ],
)
def test_a_replica_limit_that_knatives_webhook_rejects_is_reported(settings: dict[str, str], reason: str) -> None:
    _, problems = profiles.validate_profile_data(profile_with(knative={"autoscaler": settings}))

    assert codes_of(problems) == ["PRF004"]
    assert reason in problems[0].message


def test_a_replica_limit_that_knatives_webhook_accepts_is_valid() -> None:
    for settings in ({"max-scale-limit": "20", "max-scale": "20"}, {"max-scale-limit": "0"}, {"max-scale": "30"}):
        assert not profiles.validate_profile_data(profile_with(knative={"autoscaler": settings}))[1]


def test_invalid_kserve_resources_are_reported() -> None:
    _, problems = profiles.validate_profile_data(
        profile_with(
            kserve={
                "limits": {"cpu": "one"},
                "runtimeResources": {"kserve-sklearnserver": {"requests": {"memory": "2 Gi"}, "limits": {"cpu": "1"}}},
            }
        )
    )

    assert [(problem.code, problem.field) for problem in problems] == [
        ("PRF002", ("spec", "kserve", "limits", "cpu")),
        ("PRF002", ("spec", "kserve", "runtimeResources", "kserve-sklearnserver", "requests", "memory")),
    ]


def test_too_many_services_for_knatives_control_plane_are_reported() -> None:
    batch = Batch(profiles.load_built_in("full"))
    batch.services = MANY_SERVICES + 1

    assert codes_of(batch.batch_problems()) == ["SRV020"]


def test_an_amount_of_one_above_the_quota_is_singular() -> None:
    cluster, problems = profiles.validate_profile_data(
        profile_with(projects={"known": {"team-a": {"gpus": 0.5, "cpu": 0.5}}})
    )
    assert cluster is not None, problems
    compute = {"gpuDevicesRequest": 1, "cpuCoreRequest": 0.975}
    document = {**SPEC, "spec": {**SPEC["spec"], "project": "team-a", "compute": compute}}
    batch = Batch(cluster)
    batch.add_document(load_document(document, cluster))

    assert [problem.message.partition(" at ")[0] for problem in batch.batch_problems()] == [
        "the workloads of project team-a need 1 GPU",
        "the workloads of project team-a need 1 CPU core (including sidecars)",
    ]


def test_a_field_without_effect_is_reported() -> None:
    # Without canaryPercent, the stable revision is not rendered.
    document = {**SPEC, "spec": {**SPEC["spec"], "traffic": {"stableRevision": "chat-00001"}}}

    assert "IGN001" in codes_of(explain_document(document, FULL).idle)


def test_fields_that_runai_cannot_express_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: chat}\n"
        "spec: {image: ghcr.io/acme/chat:1, slo: {uptimePercent: 99.5}}\n"
    )

    assert main(["convert", "--to", "rest", str(file)]) == 1
    error_output = capsys.readouterr().err
    assert "CNV001" in error_output
    assert "CNV002" in error_output


def test_a_model_without_an_image_has_no_rest_body(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "iris.yaml"
    file.write_text(
        "apiVersion: ebbtide.dev/v1alpha1\nkind: Inference\nmetadata: {name: iris}\n"
        "spec: {model: {format: sklearn, uri: s3://models/iris}}\n"
    )

    assert main(["convert", "--to", "rest", "--profile", "full", str(file)]) == 1
    output, error_output = capsys.readouterr()
    assert output == ""
    assert "CNV003" in error_output
