"""Waits until every replica has acknowledged a published generation."""

from collections.abc import Collection
from typing import Protocol

from mongars.errors import UnavailableError
from mongars.records import RegistryStatus


class Acknowledgements(Protocol):
    """The subset of BlockingRegistryClient that a rollout uses."""

    def wait_acknowledged(self, generation: int, replicas: Collection[str], timeout_s: float) -> RegistryStatus:
        """Return the status when all `replicas` have acknowledged `generation`, or after `timeout_s` seconds."""
        ...


class Rollout:
    """Waits for replicas, which learn of a generation by the registry's long poll."""

    def __init__(self, registry: Acknowledgements) -> None:
        self._registry = registry

    def to_all(self, generation: int, replicas: Collection[str], timeout_s: float) -> RegistryStatus:
        """Return when each of `replicas` has acknowledged `generation` or a newer one.

        Raises UnavailableError with the names of those that did not within `timeout_s` seconds.
        """
        status = self._registry.wait_acknowledged(generation, replicas, timeout_s)
        reached = {each.replica for each in status.replicas if each.generation >= generation}
        late = sorted(set(replicas) - reached)
        if late:
            raise UnavailableError(
                f"Generation {generation} was not acknowledged within {timeout_s:g} s by: {', '.join(late)}.",
                remedy="It is published, and they load it as soon as they can; check with: mongars status",
            )
        return status
