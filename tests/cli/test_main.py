"""The command line as a whole: help, version, and errors as messages with exit codes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from mongars import __version__
from mongars.cli.main import app


def test_help_lists_the_commands(mongars) -> None:
    result = mongars("--help")
    assert result.exit_code == 0
    listed = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("│ ") and line[2] != " "}
    assert listed >= {"demo", "serve", "chat", "ingest", "curate", "train", "embed", "self-train", "pretrain"}
    assert listed >= {"adapters", "datasets", "runs", "memory", "keys"}
    assert not listed & {"corpus", "train-name-tagger"}


def commands(group: typer.core.TyperGroup, *path: str) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = dict(commands(get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_a_help_text(mongars, path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    assert mongars(*path, "--help").exit_code == 0
    unexplained = [each.name for each in command.params if not getattr(each, "hidden", False) and not each.help]
    assert not unexplained


def test_the_installed_program_prints_its_version() -> None:
    program = Path(sys.executable).with_name("mongars")
    result = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == __version__


def test_an_error_reaches_the_shell_as_an_exit_code_without_a_stack_trace(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mongars.cli.main", "datasets", "list"],
        env=os.environ | {"MONGARS_HOME": str(tmp_path), "MONGARS_BASEMODEL": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "Did you mean MONGARS_BASE_MODEL?" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fly",), 2, "fly"),
        (("datasets", "show", "nothing"), 1, "nothing"),
        (("adapters", "promote", "0123456789ab"), 1, "mongars adapters list"),
        (("adapters", "rollback", "--kind", "guess"), 2, "encoder"),
        (("chat", "Hello"), 1, "mongars keys create"),
        (("serve", "--port", "0"), 2, "--port"),
        (("train", "--objective", "guess"), 2, "contrastive"),
        (("train", "--objective", "contrastive", "--set", "micro_rows=2"), 2, "batch_pairs"),
    ],
)
def test_a_mistake_ends_in_a_message_with_the_remedy(
    mongars, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = mongars(*arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_an_unreachable_server_is_exit_code_4(mongars) -> None:
    result = mongars("status", MONGARS_API_KEY="mg-x", MONGARS_SERVER_URL="http://127.0.0.1:9")
    assert result.exit_code == 4
    assert "make serve" in result.stderr
