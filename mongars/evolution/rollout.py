"""Rollout: publishing is done when every replica says so.

Owns the wait and its failure. Must not know how replicas load an adapter.
"""

from collections.abc import Collection
from typing import Protocol

from mongars.errors import UnavailableError
from mongars.records import RegistryStatus


class Acknowledgements(Protocol):
    """The part of BlockingRegistryClient that a rollout needs."""

    def wait_acknowledged(self, generation: int, replicas: Collection[str], timeout_s: float) -> RegistryStatus:
        """Return the status once every named replica acknowledged `generation`, or after `timeout_s` seconds."""
        ...


class Rollout:
    """Waits for replicas; the registry's long poll has told them already."""

    def __init__(self, registry: Acknowledgements) -> None:
        self._registry = registry

    def to_all(self, generation: int, replicas: Collection[str], timeout_s: float) -> RegistryStatus:
        """Return once each of `replicas` acknowledged `generation` or a newer one.

        Raises UnavailableError that names those which did not within `timeout_s` seconds.
        """
        status = self._registry.wait_acknowledged(generation, replicas, timeout_s)
        reached = {one.replica for one in status.replicas if one.generation >= generation}
        late = sorted(set(replicas) - reached)
        if late:
            raise UnavailableError(
                f"Generation {generation} was not acknowledged within {timeout_s:g} s by: {', '.join(late)}.",
                remedy="It is published, and they load it when they can; look at them with: mongars status",
            )
        return status
