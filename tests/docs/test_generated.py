"""Generated pages and pictures are those that the code gives now."""

import re
from types import ModuleType

import pytest

from tests.docs.conftest import ROOT

REMEDY = "is not what the code gives: run `make docs` and commit the result"


@pytest.mark.parametrize("name", ["cli.md", "http.md", "settings.md"])
def test_a_committed_reference_page_is_what_the_code_gives(generate: ModuleType, name: str) -> None:
    assert set(generate.PAGES) == {"cli.md", "http.md", "settings.md"}
    assert (ROOT / "docs" / name).read_text() == generate.page(name), f"docs/{name} {REMEDY}"


def test_a_committed_picture_is_what_the_results_give(generate: ModuleType) -> None:
    for name, draw in generate.PICTURES.items():
        assert (ROOT / "docs" / "images" / name).read_text() == draw(), f"docs/images/{name} {REMEDY}"


def test_a_page_without_its_mark_is_refused(
    generate: ModuleType, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.md").write_text("# Settings\n")
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    with pytest.raises(ValueError, match="lacks the line"):
        generate.page("settings.md")


def test_every_command_has_a_section_with_its_options(generate: ModuleType) -> None:
    page = generate.cli_reference()
    from mongars.cli.main import app

    for path, command in generate.commands_of(app):
        section = re.search(rf"^## {path}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, path
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert parameter.opts[0] in section[1], f"{path} {parameter.opts[0]}"


def test_every_route_is_listed_with_its_scope(generate: ModuleType) -> None:
    page = generate.http_reference()
    assert "### POST /v1/chat/completions\n\nScope: `chat`." in page
    assert "### GET /v1/adapters\n\nScope: `admin`." in page
    assert "### GET /healthz\n\nScope: none." in page
