"""Progress and messages: readable without a terminal, and never on stdout."""

import io
import re
import sys

import pytest

from mongars.cli.output import emit, say, stages


class Terminal(io.StringIO):
    """A terminal: text, carriage returns, and the sequences that move up and erase a line."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for code, text in re.findall(r"\x1b\[[?\d;]*([A-Za-z])|([\r\n]|[^\x1b\r\n]+)", self.getvalue()):
            if code == "A":
                row -= 1
            elif code == "K":
                lines[row] = ""
            elif text == "\n":
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            elif text == "\r":
                column = 0
            elif text:
                lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
                column += len(text)
        return lines


def test_a_message_stays_on_the_terminal_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with stages() as progress:
        progress.stage("Reading")
        progress.stage("Training")
        progress.warn("chats.jsonl:3: not JSON")
        say("from the command")
        print("from a library")
        progress.stage("Judging")
    say("after the bars")
    screen = terminal.screen()
    assert screen[:3] == ["chats.jsonl:3: not JSON", "from the command", "from a library"]
    assert [line.split()[0] for line in screen[3:6]] == ["Reading", "Training", "Judging"]
    assert screen[6:] == ["after the bars", ""]


def test_a_message_is_not_wrapped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    message = "/a/path/that/is/longer/than/one/line/of/the/terminal.jsonl:3: not JSON [bold]"
    say(message)
    assert capsys.readouterr().err == message + "\n"


def test_without_a_terminal_a_stage_prints_a_line_for_each_percent(capsys: pytest.CaptureFixture[str]) -> None:
    with stages() as progress:
        progress.update(1, 2)  # no stage has begun
        progress.stage("Training")
        for step in range(1, 401):
            progress.update(step, 400, "loss 1.0")
        progress.stage("Reading")
        progress.update(7)  # of an unknown number
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["Training", "Training: 1 of 400, loss 1.0", "Training: 4 of 400, loss 1.0"]
    assert lines[-2:] == ["Training: 400 of 400, loss 1.0", "Reading"]
    assert len(lines) == 2 + 101  # the labels, and 0 % to 100 %


def test_library_output_within_a_stage_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with stages():
        print("from a library")
        print("12 PYTHON worker processes have been started on this node")  # Ray's false alarm
    emit({"rows": 1})
    printed = capsys.readouterr()
    assert printed.err == "from a library\n"
    assert printed.out == '{\n  "rows": 1\n}\n'
