"""Reconciler: keeps one replica's engine on the registry's newest generation.

It waits for a generation, adopts it, and acknowledges the one that is served. The loop is level-triggered: a lost
message costs at most one heartbeat. It does not know Ray: the registry is anything with these coroutines.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mongars import telemetry
from mongars.errors import ModelNotFoundError, MongarsError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef
from mongars.registry.manifest import UNSERVABLE, AdapterManifest
from mongars.registry.service import HEARTBEAT_S
from mongars.serving.engine.engine import Engine
from mongars.serving.engine.ephemeral_thread import run_in_ephemeral_thread
from mongars.serving.engine.slots import Lease

logger = logging.getLogger(__name__)
RETRY_S = 1.0
"""Pause before retrying a registry that does not answer; its actor restarts in about 2 s."""
NEVER_AGAIN = ("revoked", "rejected")
"""States refused even while loaded. A pruned adapter is not: its bytes may be published again."""
_load_duration = telemetry.meter.create_histogram(telemetry.ADAPTER_LOAD_DURATION, unit="s")
_load_failures = telemetry.meter.create_counter(telemetry.ADAPTER_LOAD_FAILURES)


class FollowedRegistry(Protocol):
    """The part of the registry that a replica needs."""

    async def snapshot(self) -> AdapterManifest: ...

    async def wait_for(self, generation: int, timeout_s: float) -> AdapterManifest: ...

    async def acknowledge(self, replica: str, generation: int, digests: Mapping[str, str | None]) -> None: ...


class Adapters(Protocol):
    """The store of adapters: AdapterStore or SharedAdapterStore."""

    def fetch(self, ref: AdapterRef, manifest: AdapterManifest) -> Path: ...


class Reconciler:
    """Follows the registry for one replica."""

    def __init__(self, engine: Engine, registry: FollowedRegistry, store: Adapters, replica: str) -> None:
        self._engine = engine
        self._registry = registry
        self._store = store
        self._replica = replica
        self._manifest = AdapterManifest()
        self.failures = 0
        self.last_failure: str | None = None

    async def start(self) -> None:
        """Adopt the current generation before the replica reports ready. Raises what loading raises.

        A replica that has served nothing yet has no older version to keep, so any failure is an error.
        """
        self._manifest = await self._registry.snapshot()
        await self._adopt(self._manifest)
        await self._acknowledge()

    async def run(self) -> None:
        """Follow forever. A load that fails leaves the old version serving and is retried each heartbeat.

        The replica keeps serving too while the registry is gone or its manifest cannot be read.
        """
        while True:
            try:
                await self.step()
            except MongarsError as error:
                self.last_failure = str(error)
                logger.warning("The adapter registry gave no manifest (%s); retrying.", error.code)
                await asyncio.sleep(RETRY_S)

    async def step(self) -> None:
        """Wait for a newer generation, adopt it, acknowledge. Raises as the registry does."""
        newest = max(self._engine.generation, self._manifest.generation)
        self._manifest = await self._registry.wait_for(newest + 1, HEARTBEAT_S)
        if self._manifest.generation > self._engine.generation:
            await self._try_to_adopt(self._manifest)
        await self._acknowledge()

    async def lease(self, kind: AdapterKind, digest: str) -> Lease:
        """Lease the slot of a named adapter, loading it if necessary.

        Raises ModelNotFoundError when it is unknown, of another kind, revoked, rejected or pruned.
        """
        manifest = await self._manifest_with(digest)
        ref = manifest.adapter(digest)
        if ref.kind != kind or ref.state in UNSERVABLE:
            raise ModelNotFoundError(
                f"Adapter {digest[:12]} is not a {kind} adapter that may be served ({ref.kind}, {ref.state}).",
                remedy="GET /v1/models lists what is.",
                param="model",
            )
        load = run_in_ephemeral_thread(self._open, ref, manifest)
        try:
            return await asyncio.shield(load)
        except asyncio.CancelledError:
            load.add_done_callback(_release)  # the thread continues, and nobody else would end its lease
            raise

    def status(self) -> dict[str, Any]:
        """Return the replica's name, the newest generation seen and the failures, as JSON values."""
        return {
            "replica": self._replica,
            "seen": self._manifest.generation,
            "load_failures": self.failures,
            "last_failure": self.last_failure,
        }

    async def _manifest_with(self, digest: str) -> AdapterManifest:
        """Return a manifest that may list an adapter: the last one seen, or else the newest."""
        try:
            self._manifest.adapter(digest)
        except ModelNotFoundError:
            return await self._registry.snapshot()
        return self._manifest

    def _open(self, ref: AdapterRef, manifest: AdapterManifest) -> Lease:
        return self._engine.open(ref, self._store.fetch(ref, manifest))

    async def _try_to_adopt(self, manifest: AdapterManifest) -> None:
        try:
            await self._adopt(manifest)
        except MongarsError as error:
            self.failures += 1
            self.last_failure = str(error)
            _load_failures.add(1, {"error.type": error.code})
            logger.error(  # noqa: TRY400 (a trace of our own error would add nothing)
                "Generation %d could not be loaded, %d stays: %s",
                manifest.generation,
                self._engine.generation,
                error,
            )

    async def _adopt(self, manifest: AdapterManifest) -> None:
        started = time.monotonic()
        await run_in_ephemeral_thread(self._adopt_blocking, manifest)
        self.last_failure = None
        _load_duration.record(time.monotonic() - started)

    def _adopt_blocking(self, manifest: AdapterManifest) -> None:
        served = {kind: manifest.served(kind) for kind in ADAPTER_KINDS}
        targets = {kind: (ref, self._store.fetch(ref, manifest)) if ref else None for kind, ref in served.items()}
        revoked = frozenset(ref.digest for ref in manifest.adapters if ref.state in NEVER_AGAIN)
        self._engine.adopt(manifest.generation, targets, revoked=revoked)

    async def _acknowledge(self) -> None:
        digests = {str(kind): digest for kind, digest in self._engine.current.items()}
        await self._registry.acknowledge(self._replica, self._engine.generation, digests)


def _release(load: "asyncio.Future[Lease]") -> None:
    if not load.cancelled() and load.exception() is None:
        load.result().release()
