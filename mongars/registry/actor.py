"""The registry's named actor and its clients. Only this module of the registry imports Ray.

Ray restarts a killed actor, which reads its state from storage, and delivers a call at least once
(`max_task_retries`), so every method of RegistryService is idempotent.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from mongars.errors import MongarsError, SettingsError, UnavailableError
from mongars.records import AdapterKind
from mongars.registry.registry import Publication, address_of
from mongars.registry.service import RegistryService
from mongars.remote import AsyncMethod, BlockingMethod, Call

ACTOR_NAME = "mongars-adapter-registry"
OPEN_CALLS = 10_000
"""Each open poll occupies one of the actor's concurrent calls; Ray's default for asynchronous actors is 1,000."""
ACTOR_OPTIONS: Mapping[str, Any] = {
    "name": ACTOR_NAME,
    "lifetime": "detached",
    "get_if_exists": True,  # concurrent creators get the same actor
    "max_concurrency": OPEN_CALLS,
    "max_restarts": -1,
    "max_task_retries": -1,
    "num_cpus": 0,
}
CALL_TIMEOUT_S = 120.0
"""Allowed beyond the wait of a poll: publishing copies and checks a few hundred megabytes, and after the loss of a
node Ray needs about 20 s to start the actor on another."""
_REMEDY = "Start the server with: mongars serve"


class BlockingRegistryClient:
    """The registry for a driver or a command line.

    Raises the errors of AdapterRegistry, and UnavailableError when the actor is gone or does not answer.
    """

    publish = BlockingMethod(RegistryService.publish)
    register = BlockingMethod(RegistryService.register)
    reject = BlockingMethod(RegistryService.reject)
    snapshot = BlockingMethod(RegistryService.snapshot)
    status = BlockingMethod(RegistryService.status)
    wait_acknowledged = BlockingMethod(RegistryService.wait_acknowledged, waits="timeout_s")

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find
        self._handle = find()

    @classmethod
    def connect(cls, namespace: str) -> "BlockingRegistryClient":
        """Find the actor. Raises UnavailableError when there is none."""
        return cls(partial(_find, namespace))

    def call(self, call: Call) -> Any:
        """Return the result of a call. If the actor has died, find its successor and call that once."""
        try:
            try:
                return self._get(call)
            except RayActorError:
                self._handle = self._find()
                return self._get(call)
        except (RayTaskError, RayActorError, GetTimeoutError) as error:
            raise _translated(error) from None

    def _get(self, call: Call) -> Any:
        return ray.get(call.send(self._handle), timeout=call.waits_s + CALL_TIMEOUT_S)


class RegistryClient:
    """The registry for replicas and other coroutines, which start the actor when there is none.

    A replica keeps `wait_for(its generation + 1, HEARTBEAT_S)` open and acknowledges what it serves after each
    answer, changed or not: that is its heartbeat. Raises the errors of BlockingRegistryClient.
    """

    snapshot = AsyncMethod(RegistryService.snapshot)
    status = AsyncMethod(RegistryService.status)
    wait_for = AsyncMethod(RegistryService.wait_for, waits="timeout_s")
    acknowledge = AsyncMethod(RegistryService.acknowledge)
    _address = AsyncMethod(RegistryService.address)
    _promote = AsyncMethod(RegistryService.promote)
    _rollback = AsyncMethod(RegistryService.rollback)

    def __init__(self, find: Callable[[], Any], handle: Any) -> None:
        self._find = find
        self._handle = handle

    @classmethod
    async def connect_or_create(cls, namespace: str, root: Path, url: str | None = None) -> "RegistryClient":
        """Find the actor or start it on `root`, or on `url` with copies below `root`.

        Raises SettingsError when the running one uses another place; UnavailableError without a Ray.
        """
        find = partial(_find_or_start, namespace, root, url)
        client = cls(find, await asyncio.to_thread(find))
        running, wanted = await client._address(), await asyncio.to_thread(address_of, root, url)
        if running != wanted:
            raise SettingsError(
                f"The running adapter registry uses {running}, not {wanted}.",
                remedy="Set MONGARS_MODELS_DIR and MONGARS_ENCODERS_URL as the server has them, or stop it first.",
            )
        return client

    async def promote(self, digest: str) -> Publication:
        """Serve a known adapter, unless the registry changes at the same time (StaleGenerationError)."""
        return await self._promote(digest, seen=(await self.snapshot()).generation)

    async def rollback(self, kind: AdapterKind) -> Publication:
        """Serve the previous adapter, unless the registry changes at the same time (StaleGenerationError)."""
        return await self._rollback(kind, seen=(await self.snapshot()).generation)

    async def call(self, call: Call) -> Any:
        """Return the result of a call. If the actor has died, find or start its successor and call that once."""
        try:
            try:
                return await self._get(call)
            except RayActorError:
                self._handle = await asyncio.to_thread(self._find)
                return await self._get(call)
        except (RayTaskError, RayActorError, TimeoutError) as error:
            raise _translated(error) from None

    async def _get(self, call: Call) -> Any:
        return await asyncio.wait_for(call.send(self._handle), call.waits_s + CALL_TIMEOUT_S)


def _find(namespace: str) -> Any:
    if not ray.is_initialized():  # without this check, Ray would start a cluster of its own on the first call
        raise UnavailableError("This process is connected to no Ray.", remedy=_REMEDY)
    try:
        return ray.get_actor(ACTOR_NAME, namespace=namespace)
    except ValueError:
        raise UnavailableError(f"No adapter registry runs in the namespace {namespace}.", remedy=_REMEDY) from None


def _find_or_start(namespace: str, root: Path, url: str | None) -> Any:
    if not ray.is_initialized():
        raise UnavailableError("This process is connected to no Ray.", remedy=_REMEDY)
    actor = ray.remote(RegistryService).options(namespace=namespace, **ACTOR_OPTIONS)
    return actor.remote(str(root.resolve()), url)


def _translated(error: RayTaskError | RayActorError | GetTimeoutError | TimeoutError) -> Exception:
    """Return the error that the actor raised, or UnavailableError when it did not answer."""
    if isinstance(error, RayTaskError):
        return error.cause if isinstance(error.cause, MongarsError) else error
    if isinstance(error, RayActorError):
        return UnavailableError("The adapter registry has died.", remedy=_REMEDY)
    return UnavailableError("The adapter registry does not answer.", remedy="Look at its log: ray logs actor")
