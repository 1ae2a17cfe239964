"""The named actor and its client: the registry's one edge to Ray.

Owns the actor's name, life and options, the calls to it, and the errors that cross. Must not know a rule of the
registry: `service.py` is what the actor runs. Killed or moved, the actor rebuilds itself from storage; Ray
delivers a call at least once (`max_task_retries`), so every method is idempotent.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from mongars.errors import MongarsError, SettingsError, UnavailableError
from mongars.records import AdapterKind, AdapterRef, RegistryStatus
from mongars.registry.base_fit import Shapes
from mongars.registry.manifest import AdapterManifest
from mongars.registry.registry import Publication, address_of
from mongars.registry.service import RegistryService

ACTOR_NAME = "mongars-adapter-registry"
OPEN_CALLS = 10_000
"""Each open poll holds one of the actor's concurrent calls; Ray's default for asynchronous actors is 1,000."""
ACTOR_OPTIONS: Mapping[str, Any] = {
    "name": ACTOR_NAME,
    "lifetime": "detached",
    "get_if_exists": True,  # two creators at once get the same actor
    "max_concurrency": OPEN_CALLS,
    "max_restarts": -1,
    "max_task_retries": -1,
    "num_cpus": 0,
}
CALL_TIMEOUT_S = 120.0
"""No call takes longer, beyond what a poll was told to wait: publishing copies and checks a few hundred megabytes,
and a lost node is noticed and its actor started elsewhere in some 20 s."""
T = TypeVar("T")
_REMEDY = "Start the server with: mongars serve"


def _find(namespace: str) -> Any:
    if not ray.is_initialized():  # without this look, Ray would start a cluster of its own on the first call
        raise UnavailableError("This process is connected to no Ray.", remedy=_REMEDY)
    try:
        return ray.get_actor(ACTOR_NAME, namespace=namespace)
    except ValueError:
        raise UnavailableError(f"No adapter registry runs in the namespace {namespace}.", remedy=_REMEDY) from None


def _find_or_start(namespace: str, root: Path, url: str | None) -> Any:
    if not ray.is_initialized():
        raise UnavailableError("This process is connected to no Ray.", remedy=_REMEDY)
    return (
        ray.remote(RegistryService).options(namespace=namespace, **ACTOR_OPTIONS).remote(str(root.resolve()), url)
    )


def _translated(error: RayTaskError | RayActorError | GetTimeoutError | TimeoutError) -> Exception:
    """Return the typed error that the actor raised, or what its absence means."""
    if isinstance(error, RayTaskError):
        return error.cause if isinstance(error.cause, MongarsError) else error
    if isinstance(error, RayActorError):
        return UnavailableError("The adapter registry has died.", remedy=_REMEDY)
    return UnavailableError("The adapter registry does not answer.", remedy="Look at its log: ray logs actor")


class BlockingRegistryClient:
    """The registry for a driver or a command line: AdapterRegistry's methods, answered by the named actor.

    An actor that was killed for good is looked for once more, or made anew where the client may: a call can arrive
    twice. Errors are those of AdapterRegistry, and UnavailableError when the actor is gone or does not answer.
    """

    def __init__(self, reach: Callable[[], Any]) -> None:
        self._reach = reach
        self._handle = reach()

    @classmethod
    def connect(cls, namespace: str) -> "BlockingRegistryClient":
        """Find the actor. Raises UnavailableError when there is none."""
        return cls(partial(_find, namespace))

    @classmethod
    def connect_or_create(cls, namespace: str, root: Path, url: str | None = None) -> "BlockingRegistryClient":
        """Find the actor or start it on `root`, or on `url` with copies below `root`.

        Raises SettingsError when one runs elsewhere; UnavailableError without a Ray.
        """
        client = cls(partial(_find_or_start, namespace, root, url))
        _check_address(client._call(str, "address"), address_of(root, url))
        return client

    def publish(
        self,
        folder: Path,
        name: str,
        kind: AdapterKind = "encoder",
        *,
        base_digest: str,
        base_shapes: Shapes | None,
        activate: bool = True,
        metrics: Mapping[str, float] | None = None,
    ) -> Publication:
        """As AdapterRegistry.publish; the actor's machine must be able to read `folder`."""
        place = str(folder.resolve())
        return self._call(Publication, "publish", place, name, kind, base_digest, base_shapes, activate, metrics)

    def register(
        self,
        folder: Path,
        name: str,
        kind: AdapterKind = "encoder",
        *,
        base_digest: str,
        base_shapes: Shapes | None,
        metrics: Mapping[str, float] | None = None,
    ) -> Publication:
        """As AdapterRegistry.register."""
        return self.publish(
            folder, name, kind, base_digest=base_digest, base_shapes=base_shapes, activate=False, metrics=metrics
        )

    def canary(self, digest: str) -> Publication:
        """As AdapterRegistry.canary."""
        return self._call(Publication, "canary", digest)

    def promote(self, digest: str, *, seen: int | None = None) -> Publication:
        """As AdapterRegistry.promote; without `seen`, upon the manifest of this moment."""
        return self._call(Publication, "promote", digest, self.snapshot().generation if seen is None else seen)

    def rollback(self, kind: AdapterKind = "encoder", *, seen: int | None = None) -> Publication:
        """As AdapterRegistry.rollback; without `seen`, upon the manifest of this moment."""
        return self._call(Publication, "rollback", kind, self.snapshot().generation if seen is None else seen)

    def reject(self, digest: str, *, metrics: Mapping[str, float] | None = None) -> Publication:
        """As AdapterRegistry.reject."""
        return self._call(Publication, "reject", digest, metrics)

    def revoke(self, digest: str) -> Publication:
        """As AdapterRegistry.revoke."""
        return self._call(Publication, "revoke", digest)

    def prune(self, keep: int) -> tuple[AdapterRef, ...]:
        """As AdapterRegistry.prune."""
        return self._call(tuple, "prune", keep)

    def snapshot(self) -> AdapterManifest:
        """As AdapterRegistry.snapshot."""
        return self._call(AdapterManifest, "snapshot")

    def current(self, kind: AdapterKind = "encoder") -> AdapterRef | None:
        """As AdapterRegistry.current."""
        return self.snapshot().served(kind)

    def status(self) -> RegistryStatus:
        """As RegistryService.status."""
        return self._call(RegistryStatus, "status")

    def wait_acknowledged(self, generation: int, replicas: Collection[str], timeout_s: float) -> RegistryStatus:
        """As RegistryService.wait_acknowledged."""
        return self._call(
            RegistryStatus, "wait_acknowledged", generation, list(replicas), timeout_s, waits_s=timeout_s
        )

    def _call(self, returns: type[T], method: str, *args: Any, waits_s: float = 0.0) -> T:
        try:
            try:
                answer = self._get(method, args, waits_s)
            except RayActorError:
                self._handle = self._reach()
                answer = self._get(method, args, waits_s)
        except (RayTaskError, RayActorError, GetTimeoutError) as error:
            raise _translated(error) from None
        assert isinstance(answer, returns)
        return answer

    def _get(self, method: str, args: Sequence[Any], waits_s: float) -> Any:
        return ray.get(getattr(self._handle, method).remote(*args), timeout=waits_s + CALL_TIMEOUT_S)


class RegistryClient:
    """The registry for replicas and other coroutines. Errors are those of BlockingRegistryClient.

    A replica keeps `wait_for(its generation + 1, HEARTBEAT_S)` open and acknowledges what it serves after each
    answer, changed or not: that is its heartbeat.
    """

    def __init__(self, reach: Callable[[], Any], handle: Any) -> None:
        self._reach = reach
        self._handle = handle

    @classmethod
    async def connect(cls, namespace: str) -> "RegistryClient":
        """Find the actor. Raises UnavailableError when there is none."""
        return await cls._reached(partial(_find, namespace))

    @classmethod
    async def connect_or_create(cls, namespace: str, root: Path, url: str | None = None) -> "RegistryClient":
        """Find the actor or start it on `root`, or on `url` with copies below `root`.

        Raises SettingsError when one runs elsewhere; UnavailableError without a Ray.
        """
        client = await cls._reached(partial(_find_or_start, namespace, root, url))
        _check_address(await client._call(str, "address"), await asyncio.to_thread(address_of, root, url))
        return client

    @classmethod
    async def _reached(cls, reach: Callable[[], Any]) -> "RegistryClient":
        return cls(reach, await asyncio.to_thread(reach))

    async def publish(
        self,
        folder: Path,
        name: str,
        kind: AdapterKind = "encoder",
        *,
        base_digest: str,
        base_shapes: Shapes | None,
        activate: bool = True,
        metrics: Mapping[str, float] | None = None,
    ) -> Publication:
        """As BlockingRegistryClient.publish."""
        place = await asyncio.to_thread(lambda: str(folder.resolve()))
        return await self._call(
            Publication, "publish", place, name, kind, base_digest, base_shapes, activate, metrics
        )

    async def promote(self, digest: str, *, seen: int | None = None) -> Publication:
        """As BlockingRegistryClient.promote."""
        seen = (await self.snapshot()).generation if seen is None else seen
        return await self._call(Publication, "promote", digest, seen)

    async def rollback(self, kind: AdapterKind = "encoder", *, seen: int | None = None) -> Publication:
        """As BlockingRegistryClient.rollback."""
        seen = (await self.snapshot()).generation if seen is None else seen
        return await self._call(Publication, "rollback", kind, seen)

    async def revoke(self, digest: str) -> Publication:
        """As AdapterRegistry.revoke."""
        return await self._call(Publication, "revoke", digest)

    async def snapshot(self) -> AdapterManifest:
        """As AdapterRegistry.snapshot."""
        return await self._call(AdapterManifest, "snapshot")

    async def current(self, kind: AdapterKind = "encoder") -> AdapterRef | None:
        """As AdapterRegistry.current."""
        return (await self.snapshot()).served(kind)

    async def wait_for(self, generation: int, timeout_s: float) -> AdapterManifest:
        """Return the manifest once it has `generation` or a newer one.

        After `timeout_s` seconds it is returned as it is then: compare its generation.
        """
        return await self._call(AdapterManifest, "wait_for", generation, timeout_s, waits_s=timeout_s)

    async def acknowledge(self, replica: str, generation: int, digests: Mapping[str, str | None]) -> None:
        """Tell what `replica` has loaded. Repeat it at least every HEARTBEAT_S seconds."""
        await self._call(type(None), "acknowledge", replica, generation, dict(digests))

    async def status(self) -> RegistryStatus:
        """As RegistryService.status."""
        return await self._call(RegistryStatus, "status")

    async def _call(self, returns: type[T], method: str, *args: Any, waits_s: float = 0.0) -> T:
        try:
            try:
                answer = await self._get(method, args, waits_s)
            except RayActorError:
                self._handle = await asyncio.to_thread(self._reach)
                answer = await self._get(method, args, waits_s)
        except (RayTaskError, RayActorError, TimeoutError) as error:
            raise _translated(error) from None
        assert isinstance(answer, returns)
        return answer

    async def _get(self, method: str, args: Sequence[Any], waits_s: float) -> Any:
        return await asyncio.wait_for(getattr(self._handle, method).remote(*args), waits_s + CALL_TIMEOUT_S)


def _check_address(running: str, wanted: str) -> None:
    if running != wanted:
        raise SettingsError(
            f"The running adapter registry keeps {running}, not {wanted}.",
            remedy="Set MONGARS_MODELS_DIR and MONGARS_ENCODERS_URL as the server has them, or stop it first.",
        )
