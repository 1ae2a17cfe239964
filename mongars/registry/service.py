"""The registry as a service: every change tells every replica, and replicas tell what they serve.

Owns the long poll and the replicas' acknowledgements. It holds nothing that the manifest does not, but the
acknowledgements, which replicas repeat. Must not know Ray, nor what a replica does with an adapter: `actor.py`
runs one of these as the named actor.

Broadcast: every replica keeps a `wait_for` open, and each change answers all of them at once. A change by another
process (a command line without a cluster, or a second actor after a network partition) is seen by a look at the
manifest's inode and time four times a second (in an object store, at its ETag every five seconds).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mongars.records import AdapterKind, AdapterRef, RegistryStatus, ReplicaStatus, now
from mongars.registry.base_fit import Shapes
from mongars.registry.manifest import AdapterManifest
from mongars.registry.registry import AdapterRegistry, Publication

HEARTBEAT_S = 10.0
"""A replica polls with at most this timeout and acknowledges after every poll, changed or not."""
DROPPED_AFTER_S = 3 * HEARTBEAT_S
"""A replica that missed three heartbeats is gone: it leaves the status and no longer counts for the skew."""


@dataclass(frozen=True, slots=True)
class _Heartbeat:
    status: ReplicaStatus
    heard_at: float
    """Monotonic seconds of this process."""


class RegistryService:
    """Asynchronous methods around an AdapterRegistry; blocking work runs in threads.

    Every method may arrive twice: see AdapterRegistry for what that means to `promote` and `rollback`.
    """

    def __init__(self, root: str, url: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = AdapterRegistry(Path(root), url)
        self._clock = clock
        self._woken = asyncio.Event()
        self._seen: tuple[Hashable, AdapterManifest] | None = None
        self._heartbeats: dict[str, _Heartbeat] = {}

    async def address(self) -> str:
        """Return the folder or URL that this service rebuilds itself from."""
        return self._registry.address

    async def publish(
        self,
        folder: str,
        name: str,
        kind: AdapterKind,
        base_digest: str,
        base_shapes: Shapes | None,
        activate: bool,
        metrics: Mapping[str, float] | None,
    ) -> Publication:
        """As AdapterRegistry.publish; `folder` is a path that this service's machine can read."""
        return await self._change(
            self._registry.publish,
            Path(folder),
            name,
            kind,
            base_digest=base_digest,
            base_shapes=base_shapes,
            activate=activate,
            metrics=metrics,
        )

    async def canary(self, digest: str) -> Publication:
        """As AdapterRegistry.canary."""
        return await self._change(self._registry.canary, digest)

    async def promote(self, digest: str, seen: int | None) -> Publication:
        """As AdapterRegistry.promote."""
        return await self._change(self._registry.promote, digest, seen=seen)

    async def rollback(self, kind: AdapterKind, seen: int | None) -> Publication:
        """As AdapterRegistry.rollback."""
        return await self._change(self._registry.rollback, kind, seen=seen)

    async def reject(self, digest: str, metrics: Mapping[str, float] | None) -> Publication:
        """As AdapterRegistry.reject."""
        return await self._change(self._registry.reject, digest, metrics=metrics)

    async def revoke(self, digest: str) -> Publication:
        """As AdapterRegistry.revoke."""
        return await self._change(self._registry.revoke, digest)

    async def prune(self, keep: int) -> tuple[AdapterRef, ...]:
        """As AdapterRegistry.prune."""
        gone = await asyncio.to_thread(self._registry.prune, keep)
        self._seen = None
        self._wake()
        return gone

    async def snapshot(self) -> AdapterManifest:
        """Return the manifest as it is in storage now."""
        return await asyncio.to_thread(self._registry.snapshot)

    async def wait_for(self, generation: int, timeout_s: float) -> AdapterManifest:
        """Return the manifest once its generation is at least `generation`; after `timeout_s`, as it is then."""

        async def reached() -> bool:
            return (await self._latest()).generation >= generation

        await self._until(reached, timeout_s)
        return await self._latest()

    async def acknowledge(self, replica: str, generation: int, digests: Mapping[str, str | None]) -> None:
        """Note what a replica has loaded: its heartbeat. A late repeat of an older one is ignored."""
        last = self._heartbeats.get(replica)
        if last is not None and last.status.generation > generation:
            return
        status = ReplicaStatus(replica, generation, dict(digests), now())
        self._heartbeats[replica] = _Heartbeat(status, self._clock())
        if last is None or last.status.generation != generation:
            self._wake()

    async def wait_acknowledged(self, generation: int, replicas: list[str], timeout_s: float) -> RegistryStatus:
        """Return the status once every named replica acknowledged `generation` or newer, or after `timeout_s`."""

        async def acknowledged() -> bool:
            beats = [self._heartbeats.get(replica) for replica in replicas]
            return all(beat is not None and beat.status.generation >= generation for beat in beats)

        await self._until(acknowledged, timeout_s)
        return await self.status()

    async def status(self) -> RegistryStatus:
        """Return the generation, what is served, and the replicas heard of in the last DROPPED_AFTER_S seconds."""
        manifest = await self._latest()
        oldest_heard = self._clock() - DROPPED_AFTER_S
        self._heartbeats = {r: beat for r, beat in self._heartbeats.items() if beat.heard_at >= oldest_heard}
        replicas = tuple(self._heartbeats[replica].status for replica in sorted(self._heartbeats))
        oldest = min((one.generation for one in replicas), default=manifest.generation)
        skew = max(0, manifest.generation - oldest)
        current = {str(kind): digest for kind, digest in manifest.current.items()}
        return RegistryStatus(manifest.generation, current, replicas, skew)

    async def _change(self, method: Callable[..., Publication], *args: Any, **options: Any) -> Publication:
        publication = await asyncio.to_thread(method, *args, **options)
        if publication.changed:
            self._seen = None
            self._wake()
        return publication

    async def _latest(self) -> AdapterManifest:
        """Return the manifest, parsed again only when the file looks different from when it was last read."""
        # The look comes before the reading: a change between them shows as different at the next look.
        fingerprint = await asyncio.to_thread(self._registry.fingerprint)
        if self._seen is None or self._seen[0] != fingerprint:
            self._seen = (fingerprint, await asyncio.to_thread(self._registry.snapshot))
        return self._seen[1]

    async def _until(self, holds: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """Wait until `holds`, looking at every wake-up and every few moments; at most `timeout_s` seconds."""
        deadline = self._clock() + timeout_s
        while True:
            woken = self._woken  # taken before the look: a change right after it sets this very event
            if await holds():
                return
            left = deadline - self._clock()
            if left <= 0:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), min(left, self._registry.look_every_s))

    def _wake(self) -> None:
        self._woken.set()
        self._woken = asyncio.Event()
