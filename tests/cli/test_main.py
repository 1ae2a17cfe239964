"""The command line as a whole: help, versions, and mistakes that end in a message and a code."""

import subprocess
from collections.abc import Callable

import pytest

from mongars import __version__

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_help_lists_the_commands(mongars: Run) -> None:
    result = mongars("--help")
    assert result.returncode == 0
    for command in (
        "demo",
        "serve",
        "chat",
        "ingest",
        "curate",
        "train",
        "embed",
        "self-train",
        "adapters",
        "datasets",
        "runs",
    ):
        assert command in result.stdout


def test_version_is_printed(mongars: Run) -> None:
    assert mongars("--version").stdout.strip() == __version__


def test_an_unknown_setting_is_named_without_a_stack_trace(mongars: Run) -> None:
    result = mongars("datasets", "list", MONGARS_BASEMODEL="x")
    assert result.returncode == 2
    assert "Did you mean MONGARS_BASE_MODEL?" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_unknown_command_is_a_usage_error(mongars: Run) -> None:
    assert mongars("fly").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("datasets", "show", "nothing"), 1, "nothing"),
        (("adapters", "promote", "0123456789ab"), 1, "mongars adapters list"),
        (("chat", "Hello"), 1, "mongars keys create"),
        (("serve", "--port", "0"), 2, "--port"),
        (("train", "--objective", "guess"), 2, "contrastive"),
        (("train", "--objective", "contrastive", "--set", "micro_rows=2"), 2, "batch_pairs"),
    ],
)
def test_a_mistake_ends_in_a_message_that_names_the_remedy(
    mongars: Run, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = mongars(*arguments)
    assert result.returncode == code
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_does_not_answer_is_exit_code_4(mongars: Run) -> None:
    result = mongars("status", MONGARS_API_KEY="mg-x", MONGARS_SERVER_URL="http://127.0.0.1:9")
    assert result.returncode == 4
    assert "make serve" in result.stderr
