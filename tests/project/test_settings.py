"""Settings: unknown variables and impossible values are refused by name."""

from pathlib import Path

import pytest

from mongars.errors import SettingsError
from mongars.settings import load_settings


def test_an_unknown_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGARS_BASEMODEL", "x")
    with pytest.raises(SettingsError, match="Did you mean MONGARS_BASE_MODEL"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("MONGARS_LLM_BACKEND", "gpt"), ("MONGARS_RETENTION_DAYS", "0"), ("MONGARS_LANGUAGES", "english")],
)
def test_an_error_for_an_impossible_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_a_list_is_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGARS_LANGUAGES", "en, de")
    assert load_settings().languages == ("en", "de")


def test_all_changing_data_is_below_the_home_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MONGARS_HOME", str(tmp_path))
    settings = load_settings()
    for place in (settings.database, settings.index, settings.tracking, str(settings.keys_file)):
        assert str(tmp_path) in place
