"""The configuration file: it names the profile and the Prometheus, after options and the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ebbtide.cli import configuration
from ebbtide.cli.common import choose_profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in (configuration.CONFIG_VARIABLE, "EBBTIDE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    configuration._read_settings.cache_clear()  # noqa: SLF001 - a process reads the file once
    yield
    configuration._read_settings.cache_clear()  # noqa: SLF001 - as above


def write(tmp_path: Path, text: str) -> None:
    (tmp_path / "ebbtide").mkdir(exist_ok=True)
    (tmp_path / "ebbtide" / "config.yaml").write_text(text)


def test_without_a_file_the_default_applies() -> None:
    assert choose_profile("") == "built-in"
    assert configuration.find_setting("prometheus") == ""


def test_a_file_names_both_relative_to_itself(tmp_path: Path) -> None:
    write(tmp_path, "profile: clusters/a.yaml\nprometheus: https://prometheus.example.com\n")

    assert choose_profile("") == str(tmp_path / "ebbtide" / "clusters" / "a.yaml")
    assert configuration.find_setting("prometheus") == "https://prometheus.example.com"


def test_options_and_the_environment_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "profile: full\n")

    assert choose_profile("") == "full"
    monkeypatch.setenv("EBBTIDE_PROFILE", "other.yaml")
    assert choose_profile("") == "other.yaml"
    assert choose_profile("mine.yaml") == "mine.yaml"


def test_an_empty_variable_means_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "profile: full\n")
    monkeypatch.setenv(configuration.CONFIG_VARIABLE, "")

    assert choose_profile("") == "built-in"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- profile\n", "must be a mapping of profile and prometheus"),
        ("profil: full\n", "unknown setting profil; use profile or prometheus"),
        ("profile: 5\n", "profile must be text"),
        ("profile: [\n", "config.yaml:"),
    ],
)
def test_an_invalid_file_is_an_error_of_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    write(tmp_path, text)

    with pytest.raises(SystemExit) as ended:
        choose_profile("")

    assert ended.value.code == configuration.USAGE
    assert words in capsys.readouterr().err


def test_a_named_file_that_does_not_exist_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(configuration.CONFIG_VARIABLE, str(tmp_path / "none.yaml"))

    with pytest.raises(SystemExit):
        choose_profile("")

    assert "cannot read the configuration" in capsys.readouterr().err
