"""The registry as a service: changes reach every replica, and replicas acknowledge what they serve.

Broadcast: every replica keeps a `wait_for` open, and each change answers all of them at once. A change by another
process (a command line, or a second actor after a network partition) is noticed by polling the manifest's
fingerprint. The only state besides the manifest are the acknowledgements, which replicas repeat.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from mongars.records import AdapterKind, RegistryStatus, ReplicaStatus, now
from mongars.registry.manifest import AdapterManifest
from mongars.registry.registry import AdapterRegistry, Publication
from mongars.registry.store import PublishRequest

HEARTBEAT_S = 10.0
"""A replica polls with at most this timeout and acknowledges after every poll, changed or not."""
DROPPED_AFTER_S = 3 * HEARTBEAT_S
"""A replica that missed three heartbeats leaves the status and no longer counts for the skew."""
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class _Heartbeat:
    status: ReplicaStatus
    heard_at: float
    """Monotonic seconds of this process."""


class RegistryService:
    """Asynchronous methods of an AdapterRegistry; blocking work runs in threads.

    Every call may arrive twice. `promote` and `rollback` take the generation that the caller saw, by which
    AdapterRegistry recognises a repeated call.
    """

    def __init__(self, root: str, url: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = AdapterRegistry(Path(root), url)
        self._clock = clock
        self._woken = asyncio.Event()
        self._seen: tuple[Hashable, AdapterManifest] | None = None
        self._heartbeats: dict[str, _Heartbeat] = {}

    async def address(self) -> str:
        """Return the folder or URL of the registry."""
        return self._registry.address

    async def publish(self, request: PublishRequest) -> Publication:
        """Store an adapter and serve it; this service's machine must be able to read its folder."""
        return await self._change(self._registry.publish, request)

    async def register(self, request: PublishRequest) -> Publication:
        """Store an adapter as a candidate; this service's machine must be able to read its folder."""
        return await self._change(self._registry.register, request)

    async def promote(self, digest: str, *, seen: int) -> Publication:
        """Serve a known adapter."""
        return await self._change(self._registry.promote, digest, seen=seen)

    async def rollback(self, kind: AdapterKind, *, seen: int) -> Publication:
        """Serve the previous adapter again."""
        return await self._change(self._registry.rollback, kind, seen=seen)

    async def reject(self, digest: str, *, metrics: Mapping[str, float]) -> Publication:
        """Mark a candidate as refused by the gate, with its metrics."""
        return await self._change(self._registry.reject, digest, metrics=metrics)

    async def snapshot(self) -> AdapterManifest:
        """Return the newest manifest."""
        return await asyncio.to_thread(self._registry.snapshot)

    async def wait_for(self, generation: int, timeout_s: float) -> AdapterManifest:
        """Return the manifest when it reaches `generation`, or the current one after `timeout_s` seconds."""

        async def reached() -> bool:
            return (await self._latest()).generation >= generation

        await self._until(reached, timeout_s)
        return await self._latest()

    async def acknowledge(self, replica: str, generation: int, digests: Mapping[str, str | None]) -> None:
        """Record the adapters that a replica has loaded. A replica repeats this at least every HEARTBEAT_S.

        An acknowledgement of an older generation than the last one is a late repeat and ignored.
        """
        last = self._heartbeats.get(replica)
        if last is not None and last.status.generation > generation:
            return
        status = ReplicaStatus(replica, generation, dict(digests), now())
        self._heartbeats[replica] = _Heartbeat(status, self._clock())
        if last is None or last.status.generation != generation:
            self._wake()

    async def wait_acknowledged(
        self, generation: int, replicas: Collection[str], timeout_s: float
    ) -> RegistryStatus:
        """Return the status when all `replicas` have acknowledged `generation`, or after `timeout_s` seconds."""

        async def acknowledged() -> bool:
            beats = [self._heartbeats.get(replica) for replica in replicas]
            return all(beat is not None and beat.status.generation >= generation for beat in beats)

        await self._until(acknowledged, timeout_s)
        return await self.status()

    async def status(self) -> RegistryStatus:
        """Return the generation, the served adapters and the replicas whose heartbeat is recent."""
        manifest = await self._latest()
        oldest_heard = self._clock() - DROPPED_AFTER_S
        self._heartbeats = {r: beat for r, beat in self._heartbeats.items() if beat.heard_at >= oldest_heard}
        replicas = tuple(self._heartbeats[replica].status for replica in sorted(self._heartbeats))
        oldest = min((one.generation for one in replicas), default=manifest.generation)
        skew = max(0, manifest.generation - oldest)
        current = {str(kind): digest for kind, digest in manifest.current.items()}
        return RegistryStatus(manifest.generation, current, replicas, skew)

    async def _change(self, method: Callable[P, Publication], *args: P.args, **kwargs: P.kwargs) -> Publication:
        publication = await asyncio.to_thread(method, *args, **kwargs)
        if publication.changed:
            self._seen = None
            self._wake()
        return publication

    async def _latest(self) -> AdapterManifest:
        """Return the newest manifest, parsed only if its fingerprint has changed."""
        # Taken before the manifest is read: a change between the two is then noticed by the next call.
        fingerprint = await asyncio.to_thread(self._registry.fingerprint)
        if self._seen is None or self._seen[0] != fingerprint:
            self._seen = (fingerprint, await asyncio.to_thread(self._registry.snapshot))
        return self._seen[1]

    async def _until(self, holds: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """Wait until `holds`, at most `timeout_s` seconds; check after every change and at every poll interval."""
        deadline = self._clock() + timeout_s
        while True:
            woken = self._woken  # taken before the check, so that a change right after it still wakes us
            if await holds():
                return
            left = deadline - self._clock()
            if left <= 0:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), min(left, self._registry.poll_interval_s))

    def _wake(self) -> None:
        self._woken.set()
        self._woken = asyncio.Event()
