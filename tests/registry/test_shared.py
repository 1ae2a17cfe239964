"""The registry in an object store: a real S3 server, and machines that share nothing else."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

from mongars.errors import AdapterRefusedError, RefusedError, UnavailableError
from mongars.records import AdapterRef
from mongars.registry import AdapterManifest, AdapterRegistry, BaseSpec, PublishRequest
from mongars.registry import manifest as rules
from mongars.registry.manifest_store import MANIFEST_FILE, Stored
from mongars.registry.objects import Objects
from mongars.registry.shared import SharedManifest
from mongars.storage.digests import folder_digest

BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
MakeFolder = Callable[..., Path]
Machine = Callable[[str], AdapterRegistry]


@pytest.fixture
def machine(bucket: str, tmp_path: Path) -> Machine:
    """Return machine(name) -> the registry on that machine, with its own copies."""
    return lambda name: AdapterRegistry(tmp_path / name / "encoders", bucket)


def publish(registry: AdapterRegistry, folder: Path) -> AdapterRef:
    return registry.publish(PublishRequest(folder, "a", BASE)).adapter


def objects_of(bucket: str) -> set[str]:
    return {meta["path"] for page in obstore.list(from_url(bucket)) for meta in page}


def test_a_machine_serves_what_another_published(machine: Machine, make_folder: MakeFolder) -> None:
    ref = publish(machine("one"), make_folder())
    other = machine("two")
    manifest = other.snapshot()
    folder = other.store.fetch(ref, manifest)
    assert (manifest.generation, manifest.served("encoder")) == (1, ref)
    assert folder.is_relative_to(other.store.root)
    assert folder_digest(folder) == ref.digest


def test_every_change_is_visible_and_alters_the_fingerprint(machine: Machine, make_folder: MakeFolder) -> None:
    one, two = machine("one"), machine("two")
    fingerprints = [two.fingerprint()]
    first, second = publish(one, make_folder(0)), publish(two, make_folder(1))
    fingerprints.append(one.fingerprint())
    assert one.rollback().adapter.digest == first.digest
    assert two.promote(second.digest).adapter.state == "active"
    fingerprints.append(one.fingerprint())
    two.revoke(second.digest)
    fingerprints.append(two.fingerprint())
    assert [ref.state for ref in one.snapshot().adapters] == ["active", "revoked"]
    assert len(set(fingerprints)) == 4


PUBLISH_ALL = """
import sys
from pathlib import Path
from mongars.registry import AdapterRegistry, BaseSpec, PublishRequest
base = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
registry = AdapterRegistry(Path(sys.argv[1]), sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[3:]:
    registry.publish(PublishRequest(Path(folder), "a", base))
"""


def test_publishers_that_share_only_the_bucket_lose_no_change(
    bucket: str, machine: Machine, make_folder: MakeFolder, tmp_path: Path
) -> None:
    halves = [[str(make_folder(seed)) for seed in range(start, start + 5)] for start in (0, 5)]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISH_ALL, str(tmp_path / str(number)), bucket, *half],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        for number, half in enumerate(halves)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("go\n", timeout=60)
    manifest = machine("reader").snapshot()
    assert (manifest.generation, len(manifest.adapters)) == (10, 10)


def test_a_stale_writer_is_refused_by_the_store(machine: Machine, bucket: str, make_folder: MakeFolder) -> None:
    stale = SharedManifest(Objects(bucket))
    empty = stale.read()
    ref = publish(machine("one"), make_folder())
    seen = stale.read()
    machine("two").revoke(ref.digest)
    assert not stale.swap(empty, AdapterManifest())
    assert not stale.swap(seen, seen.manifest)
    assert machine("one").snapshot().generation == 2


def test_a_swap_whose_answer_was_lost_counts_as_done(
    machine: Machine, bucket: str, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_if = Objects.put_if

    def put_twice(self: Objects, key: str, data: bytes, tag: str | None) -> bool:
        put_if(self, key, data, tag)
        return put_if(self, key, data, tag)  # as obstore does when the first answer is lost

    registry = machine("one")
    monkeypatch.setattr(Objects, "put_if", put_twice)
    assert registry.publish(PublishRequest(make_folder(), "a", BASE)).changed
    assert registry.snapshot().generation == 1


def test_the_next_publish_succeeds_after_a_crash_before_the_swap(
    machine: Machine, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, folder = machine("one"), make_folder(1)
    old = publish(registry, make_folder(0))
    with monkeypatch.context() as crash:

        def crashed(*_: object) -> bool:
            raise KeyboardInterrupt

        crash.setattr(SharedManifest, "swap", crashed)
        with pytest.raises(KeyboardInterrupt):
            publish(registry, folder)
    assert machine("two").snapshot().served("encoder") == old
    assert publish(registry, folder) == machine("two").snapshot().served("encoder")


def test_a_damaged_copy_is_downloaded_again(machine: Machine, make_folder: MakeFolder) -> None:
    ref, other = publish(machine("one"), make_folder()), machine("two")
    copy = other.store.fetch(ref, other.snapshot())
    (copy / "adapter_model.safetensors").write_bytes(b"damaged")
    assert folder_digest(other.store.fetch(ref, other.snapshot())) == ref.digest


@pytest.mark.parametrize(("damage", "message"), [("changed", "another digest"), ("deleted", "is missing")])
def test_a_damaged_object_is_refused_and_leaves_no_copy(
    machine: Machine, bucket: str, make_folder: MakeFolder, damage: str, message: str
) -> None:
    registry, folder = machine("one"), make_folder()
    ref = publish(registry, folder)
    key = f"a/{ref.digest[:12]}/0/adapter_model.safetensors"
    obstore.put(from_url(bucket), key, b"x") if damage == "changed" else obstore.delete(from_url(bucket), key)
    other = machine("two")
    with pytest.raises(AdapterRefusedError, match=message):
        other.store.fetch(ref, other.snapshot())
    assert [path for path in other.store.root.rglob("*") if path.is_dir()] == [other.store.root / "a"]
    publish(registry, folder)  # the remedy that the error names
    assert folder_digest(other.store.fetch(ref, other.snapshot())) == ref.digest


def test_a_prune_deletes_the_objects_and_a_publish_uploads_them_again(
    machine: Machine, bucket: str, make_folder: MakeFolder
) -> None:
    registry, folder = machine("one"), make_folder(0)
    old, new = publish(registry, folder), publish(registry, make_folder(1))
    assert [ref.digest for ref in registry.prunable(0)] == [old.digest]
    assert [ref.digest for ref in registry.prune(0)] == [old.digest]
    assert registry.prune(0) == ()
    assert {key.split("/")[1] for key in objects_of(bucket) - {MANIFEST_FILE}} == {new.digest[:12]}
    publish(registry, folder)
    other = machine("two")
    assert folder_digest(other.store.fetch(old, other.snapshot())) == old.digest


def test_a_slow_prune_does_not_delete_a_concurrent_publish(machine: Machine, make_folder: MakeFolder) -> None:
    slow, folder = machine("one"), make_folder(0)
    old = publish(slow, folder)
    publish(slow, make_folder(1))
    remove = slow.store.remove

    def remove_late(ref: AdapterRef, manifest: AdapterManifest) -> None:
        publish(machine("two"), folder)
        remove(ref, manifest)

    slow.store.remove = remove_late
    slow.prune(0)
    third = machine("three")
    assert third.snapshot().served("encoder").digest == old.digest
    assert folder_digest(third.store.fetch(old, third.snapshot())) == old.digest


def test_a_publish_uploads_again_after_a_concurrent_prune(
    machine: Machine, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other, folder = machine("one"), machine("two"), make_folder(0)
    other.register(PublishRequest(folder, "a", BASE))
    monkeypatch.setattr(rules, "YOUNG", timedelta(0))
    swap, pruned = SharedManifest.swap, list[AdapterRef]()

    def prune_first(self: SharedManifest, seen: Stored, manifest: AdapterManifest) -> bool:
        monkeypatch.setattr(SharedManifest, "swap", swap)
        pruned.extend(other.prune(0))
        return swap(self, seen, manifest)

    monkeypatch.setattr(SharedManifest, "swap", prune_first)
    served = publish(slow, folder)
    assert [ref.digest for ref in pruned] == [served.digest]
    third = machine("three")
    assert third.snapshot().served("encoder") == served
    assert folder_digest(third.store.fetch(served, third.snapshot())) == served.digest


def test_a_revoked_adapter_loses_its_objects_and_is_not_uploaded_again(
    machine: Machine, bucket: str, make_folder: MakeFolder
) -> None:
    registry, folder = machine("one"), make_folder(0)
    revoked = publish(registry, folder)
    registry.revoke(revoked.digest)
    publish(registry, make_folder(1))
    assert [ref.state for ref in registry.prune(0)] == ["revoked"]
    before = objects_of(bucket)
    with pytest.raises(RefusedError, match="is revoked"):
        publish(machine("two"), folder)
    assert objects_of(bucket) == before


def test_a_missing_bucket_is_an_error_not_an_empty_registry(
    s3: str, tmp_path: Path, make_folder: MakeFolder
) -> None:
    registry = AdapterRegistry(tmp_path / "encoders", "s3://none-such/encoders")
    with pytest.raises(UnavailableError, match="none-such"):
        registry.snapshot()
    with pytest.raises(UnavailableError, match="none-such"):
        publish(registry, make_folder())


def test_an_unreachable_store_is_an_error_with_its_url(
    monkeypatch: pytest.MonkeyPatch, bucket: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # discard: nothing listens there
    with pytest.raises(UnavailableError, match=r"cannot be used.*AWS_"):
        AdapterRegistry(tmp_path / "encoders", bucket).snapshot()
