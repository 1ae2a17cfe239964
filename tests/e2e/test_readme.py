"""Every command of README.md, the quickstart and operations, run as written there, in a copy of the checkout."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from mongars.demo.generator import generate
from mongars.formats.jsonl import write_conversations, write_lines

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [README, *((ROOT / "docs" / name).read_text() for name in ("quickstart.md", "operations.md"))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)]
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
SNIPPET = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
STARTED_S = 90.0
PRETRAIN = (
    "python jobs/pretrain_base.py --input chats.jsonl --output models/base/mine "
    "--set steps=2000 --set decay_steps=1200"
)
RUN_ELSEWHERE = {
    "make demo": "tests/e2e/test_demo.py",
    'make demo ARGS="--input chats.jsonl"': "tests/e2e/test_demo.py, with another file",
    "MONGARS_BASE_MODEL=Qwen/Qwen3-0.6B make serve": "needs a model hub; a local folder runs here",
    PRETRAIN: "tests/ray/test_pretrain_on_ray.py, which takes fewer steps",
    "source .venv/bin/activate": "the tests' PATH",
}


class Session:
    """A user in a checkout: runs the documented commands and records them."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.env = os.environ | {"PATH": f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}"}
        self.run: set[str] = set()

    def __call__(self, command: str, *, code: int = 0, instead: str | None = None) -> str:
        """Run a documented command (or `instead`, its form with this test's ports) and return its stdout."""
        assert command in COMMANDS, f"no page contains: {command}"
        self.run.add(command)
        return self.shell(instead or command, code=code)

    def export(self) -> None:
        """Take over the variables that operations.md exports."""
        for command in COMMANDS:
            if command.startswith("export "):
                self(command)
                printed = self.shell(f"{command}; env -0")
                self.env = dict(pair.split("=", 1) for pair in printed.split("\0") if "=" in pair)

    def shell(self, command: str, *, code: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.checkout, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def wait_for(self, url: str) -> None:
        """Wait until a server answers without a server error: the dashboard answers 401 without a token."""
        deadline = time.monotonic() + STARTED_S
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(url).status_code < 500:
                    return
            time.sleep(0.5)
        raise AssertionError(f"{url} did not answer in {STARTED_S:.0f} s.")

    @contextmanager
    def background(self, command: str, *, until: str) -> Iterator[list[str]]:
        """Run a command until the block ends, and yield its output up to the line with `until`."""
        log = self.checkout / "background.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.checkout,
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            assert process.stdout is not None
            try:
                seen: list[str] = []
                for line in process.stdout:
                    errors.write(line)
                    seen.append(line.strip())
                    if until in line:
                        break
                assert seen and until in seen[-1], "\n".join(seen)
                yield seen
            finally:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise


@pytest.fixture(scope="module")
def user(checkout: Path) -> Session:
    write_conversations(checkout / "chats.jsonl", generate(200, seed=3).conversations)
    write_lines(checkout / "texts.jsonl", [{"id": "a", "text": "A table for two."}, {"id": "b", "text": "Lyon"}])
    return Session(checkout)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_served_assistant_answers_and_learns_by_the_commands_of_the_readme(user: Session) -> None:
    port = free_port()
    user.run.add("make serve")
    with user.background(f"make serve PORT={port}", until="Ready on") as output:
        key = next(line for line in output if line.startswith("mg-"))
        user.env |= {"MONGARS_API_KEY": key, "MONGARS_SERVER_URL": f"http://127.0.0.1:{port}"}
        snippet = SNIPPET.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("the key", key)
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=True)
        assert "'version': 0" in done.stdout
        assert user('mongars chat "Can you book a table for two in Lyon?"').strip()
        assert "table" in user('mongars memory search "table"')
        assert "generation" in user("mongars status")

        assert user("mongars keys create --user anna --consent").startswith("mg-")
        user("mongars ingest chats.jsonl")
        learn = next(command for command in COMMANDS if command.startswith("mongars self-train"))
        assert "promoted" in user(learn)
        assert "active" in user("mongars adapters list")
        assert "texts" in user("mongars redact --input texts.jsonl --output redacted.jsonl")
        holds = user("mongars datasets erase anna", instead="mongars datasets erase user-1")
        assert "Versions with rows of the user" in holds
        assert "conversations@v1" in holds, "the adapter that learned from them is named with its dataset"
        assert "rows" in user("mongars embed --input texts.jsonl --output vectors.parquet")
        loaded = json.loads(user.shell("mongars status --json"))
        assert {one["generation"] for one in loaded["replicas"]} == {1}


def test_the_application_runs_on_a_running_ray_and_takes_jobs(user: Session) -> None:
    user.export()
    user("mongars keys create --user owner --admin --if-none")
    user("mongars check serve_configs/local.yaml")
    port = free_port()
    config = user.checkout / "local.yaml"
    config.write_text((user.checkout / "serve_configs" / "local.yaml").read_text().replace("8000", str(port)))
    user.run.add("ray start --head")
    with user.background("ray start --head --block", until="--block"):
        user.wait_for("http://127.0.0.1:8265")  # Ray's dashboard accepts jobs and configs; it starts a bit later
        user("serve deploy serve_configs/local.yaml", instead="serve deploy local.yaml")
        user.shell(
            f"curl --silent --fail --retry 60 --retry-all-errors --retry-delay 2 http://127.0.0.1:{port}/readyz"
        )
        job = next(command for command in COMMANDS if command.startswith("ray job submit"))
        assert '"rows_kept"' in user(job)


def test_every_documented_command_was_run(user: Session) -> None:
    missing = set(COMMANDS) - user.run - set(RUN_ELSEWHERE)
    assert not missing
