"""Pages agree with the repository: links, paths, commands and targets exist, and the site builds."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mongars.cli.main import app
from mongars.curation.filters.quality import DropReason
from mongars.curation.pii.spans import PiiType
from tests.docs.conftest import PAGES, ROOT, name_of, without_code

COLUMNS = 120
README_LINES = 130
SENTENCE_WORDS = 25
RECORDS = ("decisions", "results")  # figures and their conditions make longer sentences
PATH = re.compile(r"`((?:mongars|tests|jobs|benchmarks|serve_configs|models/base|docs)/[\w./-]*\w/?)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = ("mongars", "jobs", "benchmarks", "tests", "serve_configs")
CODE_LINK = re.compile(r"\bdocs/(?:decisions|results)/[\w/-]*\w(?:\.md)?")  # `docs/decisions/012` is one as well
LOADED = re.compile(r"<(?:script|img|link rel=\"stylesheet\")[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+\"")

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@every_page
def test_lines_are_at_most_120_columns(page: Path) -> None:
    lines = enumerate(without_code(page.read_text()).splitlines(), 1)
    long = [number for number, line in lines if len(line) > COLUMNS and not line.startswith("|")]
    assert not long, f"lines {long}"


@every_page
def test_links_to_files_and_headings_exist(page: Path) -> None:
    for target in LINK.findall(without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file.read_text()), target


@every_page
def test_paths_named_in_code_spans_exist(page: Path) -> None:
    missing = [path for path in PATH.findall(page.read_text()) if not (ROOT / path).exists()]
    assert not missing


@every_page
def test_documented_commands_and_options_exist(page: Path) -> None:
    for command in _commands(page.read_text()):
        _check(command)


@pytest.mark.parametrize(
    "command",
    ["mongars ingets chats.jsonl", "mongars train --learning-rate 1", "mongars adapters lst", "mongars keys make"],
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    with pytest.raises(AssertionError):
        _check(command)


@every_page
def test_documented_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`|\s{2})make ([a-z0-9-]+)", page.read_text(), re.MULTILINE)
    assert set(named) <= targets


def test_pages_that_the_code_refers_to_exist() -> None:
    files = [file for folder in CODE for end in ("*.py", "*.yaml") for file in (ROOT / folder).rglob(end)]
    named = {name for file in files for name in CODE_LINK.findall(file.read_text())}
    assert named
    missing = [name for name in sorted(named) if not list(ROOT.glob(f"{name}*"))]
    assert not missing


def test_names_that_contributing_mentions_are_in_the_files_of_the_row() -> None:
    rows = [line for line in (ROOT / "docs" / "contributing.md").read_text().splitlines() if line[:1] == "|"]
    checked = 0
    for row in rows:
        files = [ROOT / path for path in PATH.findall(row)]
        code = "".join(
            file.read_text() for place in files for file in ([place] if place.suffix else place.rglob("*.py"))
        )
        for name in re.findall(r"`(\w+)`", row) if files else ():
            assert name in code, f"{name}: {row}"
            checked += 1
    assert checked > 10


def test_architecture_lists_the_layers_of_import_linter_in_their_order() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(layer.split(" | ")) for contract in contracts for layer in contract.get("layers", ())]
    table = re.findall(r"^\| \d+ \| ([^|]+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    documented = [set(re.findall(r"`(\w+)`", row)) for row in table]
    assert documented == layers


@pytest.mark.parametrize("folder", ["decisions", "results"])
def test_an_index_lists_every_page_of_its_folder(folder: str) -> None:
    pages = {page.name for page in (ROOT / "docs" / folder).glob("*.md")} - {"index.md"}
    assert pages == set(LINK.findall((ROOT / "docs" / folder / "index.md").read_text()))


def test_preprocessing_lists_every_reason_and_every_type_of_personal_data() -> None:
    rows = [line for line in (ROOT / "docs" / "preprocessing.md").read_text().splitlines() if line[:1] == "|"]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {str(reason) for reason in DropReason} <= listed
    assert {str(kind) for kind in PiiType} <= listed


def test_the_readme_has_at_most_130_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name not in RECORDS], ids=name_of)
def test_sentences_of_guides_have_at_most_25_words(page: Path) -> None:
    long = [sentence for sentence in _sentences(page.read_text()) if len(sentence.split()) > SENTENCE_WORDS]
    assert not long


def test_the_site_builds_strictly_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) > len(list((ROOT / "docs").rglob("*.md"))) / 2
    for file in built:
        assert not LOADED.findall(file.read_text()), file.name


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower() for heading in headings)
    return {re.sub(r"\s+", "-", heading) for heading in plain}


def _commands(text: str) -> Iterator[str]:
    """Yield every `mongars` command line of a page: in blocks of shell, and in spans of code."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"(?:[A-Z_]+=\S+ )*(mongars .*)", line.strip()):
                yield match[1]
    yield from re.findall(r"^ {4}(mongars (?!.*\[OPTIONS\]).*)$", text, re.MULTILINE)
    yield from re.findall(r"`(mongars [^`]+)`", text)


def _check(line: str) -> None:
    """Resolve the command and the names of its options; brackets around optional ones are ignored."""
    tokens = shlex.split(line.replace("[", "").replace("]", ""), comments=True)[1:]
    command: Any = typer.main.get_command(app)
    while tokens and hasattr(command, "commands"):
        name = tokens.pop(0)
        if name in ("...", "--help", "--version", "COMMAND"):
            return
        assert name in command.commands, f"{line}: there is no command {name}"
        command = command.commands[name]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for token in tokens:
        if token.startswith("--"):
            assert token.partition("=")[0] in known | {"--help"}, f"{line}: there is no option {token}"


def _sentences(text: str) -> list[str]:
    """Return the sentences of prose: paragraphs and list items, links by their words."""
    prose = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", without_code(text))
    blocks = re.split(r"\n\s*\n|\n(?=[-*|#])", prose)
    lines = (" ".join(block.split()) for block in blocks if not block.lstrip().startswith(("|", "<")))
    return [part for line in lines for part in re.split(r"(?<=[.:!?])\s+(?=[A-Z`*])", line)]
