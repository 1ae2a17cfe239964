"""The registry in a folder: consistent after a crash, no change lost between processes."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mongars.errors import ModelNotFoundError, RefusedError, StaleGenerationError
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
MakeFolder = Callable[..., Path]


@pytest.fixture
def registry(tmp_path: Path) -> AdapterRegistry:
    return AdapterRegistry(tmp_path / "encoders")


def test_publishing_twice_gives_the_same_generation(registry: AdapterRegistry, make_folder: MakeFolder) -> None:
    folder = make_folder()
    first, second = (registry.publish(PublishRequest(folder, "a", BASE)) for _ in range(2))
    assert (first.generation, first.changed) == (1, True)
    assert (second.generation, second.changed) == (1, False)
    assert registry.snapshot().served("encoder") == first.adapter


def test_a_candidate_is_served_only_when_it_is_promoted(
    registry: AdapterRegistry, make_folder: MakeFolder
) -> None:
    candidate = registry.register(PublishRequest(make_folder(), "a", BASE))
    assert registry.snapshot().served("encoder") is None
    assert registry.promote(candidate.adapter.digest[:12]).adapter == registry.snapshot().served("encoder")


def test_a_repeated_rollback_is_a_no_op_and_a_late_one_is_stale(
    registry: AdapterRegistry, make_folder: MakeFolder
) -> None:
    older = registry.publish(PublishRequest(make_folder(0), "a", BASE)).adapter
    registry.publish(PublishRequest(make_folder(1), "a", BASE))
    assert registry.rollback(seen=2).adapter.digest == older.digest
    again = registry.rollback(seen=2)
    assert (again.generation, again.changed, again.adapter.digest) == (3, False, older.digest)
    registry.publish(PublishRequest(make_folder(2), "a", BASE))
    with pytest.raises(StaleGenerationError, match="generation 4, not 2"):
        registry.rollback(seen=2)
    with pytest.raises(StaleGenerationError):
        registry.promote(older.digest, seen=3)


def test_a_revoked_adapter_cannot_be_published_again(registry: AdapterRegistry, make_folder: MakeFolder) -> None:
    folder = make_folder()
    digest = registry.publish(PublishRequest(folder, "a", BASE)).adapter.digest
    assert registry.revoke(digest).adapter.state == "revoked"
    assert registry.snapshot().served("encoder") is None
    with pytest.raises(RefusedError, match="revoked"):
        registry.publish(PublishRequest(folder, "a", BASE))
    with pytest.raises(ModelNotFoundError):
        registry.reject("f" * 64, metrics={})


def run_child(program: str, *args: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


PUBLISH_ALL = """
import sys
from pathlib import Path
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
base = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
registry = AdapterRegistry(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    registry.publish(PublishRequest(Path(folder), "a", base))
"""


def test_concurrent_publishers_lose_no_change(registry: AdapterRegistry, make_folder: MakeFolder) -> None:
    halves = [[make_folder(seed) for seed in range(start, start + 6)] for start in (0, 6)]
    children = [run_child(PUBLISH_ALL, registry.store.root, *half) for half in halves]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    manifest = registry.snapshot()
    assert manifest.generation == 12
    assert len(manifest.adapters) == 12


# The child kills itself at the nth call of a system function, so every step of a publish crashes once.
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
root, folder, function, nth = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
base = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
real, calls = getattr(os, function), 0
def hooked(*args, **kwargs):
    global calls
    calls += 1
    if calls == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
setattr(os, function, hooked)
AdapterRegistry(root).publish(PublishRequest(folder, "a", base))
print("done", calls, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("function", ["fsync", "replace", "rename"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_manifest(
    registry: AdapterRegistry, make_folder: MakeFolder, function: str
) -> None:
    registry.publish(PublishRequest(make_folder(0), "a", BASE))
    generation = 1
    for nth in range(1, 20):
        folder = make_folder(nth)
        child = run_child(KILLED_AT, registry.store.root, folder, function, nth)
        output, _ = child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
        manifest = registry.snapshot()
        assert manifest.generation in (generation, generation + 1)
        registry.store.verify(manifest.served("encoder"))
        # The repeated call, as by Ray or a person, finishes the change exactly once.
        assert registry.publish(PublishRequest(folder, "a", BASE)).generation == generation + 1
        generation += 1
        if output.startswith("done"):
            break
    else:
        raise AssertionError("the hook still killed at the 19th call")
    assert generation > 2, "no crash happened before the end"
    assert not list(registry.store.root.rglob(".*.tmp")), "the next change removes the remains of a crash"
