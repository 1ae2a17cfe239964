"""The adapter versions that one replica has in memory, and the routes of new requests to them.

Every method may be called from any thread. Each kind of adapter has its own route. A replica that must load a new
encoder and a new chat adapter flips them in sequence: the old version of the first drains before the second is
loaded, and three slots are enough. A request claims the generation of its own kind's route.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mongars.errors import ModelNotFoundError, OverloadedError
from mongars.records import AdapterKind, AdapterRef, AdapterStamp

SLOTS = 3
"""The current encoder, the current chat adapter, and one that loads or drains."""


@dataclass(eq=False, slots=True)
class Slot:
    """A version: its own module tree over the base's tensors. `ref` is None for the base itself.

    A `revoked` slot refuses new requests while those under way finish.
    """

    kind: AdapterKind
    ref: AdapterRef | None
    model: Any
    in_flight: int = 0
    revoked: bool = False

    @property
    def digest(self) -> str | None:
        """Return the digest of the adapter, None for the base."""
        return self.ref.digest if self.ref else None


@dataclass(frozen=True, slots=True)
class Route:
    """The target of requests of one kind that name no adapter. Immutable: a flip replaces it."""

    generation: int
    slot: Slot


class Lease:
    """A request's lease of a slot, with the stamp of its answer. Releasing it again has no effect."""

    def __init__(self, table: "SlotTable", slot: Slot, generation: int) -> None:
        self._table: SlotTable | None = table
        self.slot = slot
        name, digest = (slot.ref.name, slot.ref.digest) if slot.ref else (None, None)
        self.stamp = AdapterStamp(generation, name, digest, base=table.base_digest)

    def release(self) -> None:
        """End the lease. The last lease of a slot without a route drops the slot."""
        table, self._table = self._table, None
        if table is not None:
            table.release(self.slot)


class SlotTable:
    """The slots of a replica. Those of the base own no tensors, are never dropped and do not count."""

    def __init__(
        self, base_slots: Mapping[AdapterKind, Slot], *, base_digest: str = "", limit: int = SLOTS
    ) -> None:
        self.base_digest = base_digest
        self._base = dict(base_slots)
        self._limit = limit
        self._adapters: dict[str, Slot] = {}
        self._routes = {kind: Route(0, slot) for kind, slot in base_slots.items()}
        self._changed = threading.Condition()

    @property
    def routes(self) -> dict[AdapterKind, Route]:
        """Return the current routes, by kind."""
        with self._changed:
            return dict(self._routes)

    def lease(self, kind: AdapterKind, digest: str | None = None) -> Lease:
        """Lease the current slot of `kind`, or the loaded slot of a named adapter.

        Raises ModelNotFoundError for an adapter that is not loaded, is revoked, or is of another kind.
        """
        with self._changed:
            slot = self._routes[kind].slot if digest is None else self._adapters.get(digest)
            if slot is None or slot.revoked or slot.kind != kind:
                raise ModelNotFoundError(
                    f"The {kind} adapter {(digest or '')[:12]} is not served.",
                    remedy="GET /v1/models lists what is.",
                    param="model",
                )
            return self._lease(slot)

    def lease_loaded(self, digest: str) -> Lease | None:
        """Lease the slot of an adapter, or return None when it is not loaded."""
        with self._changed:
            slot = self._adapters.get(digest)
            return None if slot is None else self._lease(slot)

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until one more adapter may be loaded. Raises OverloadedError after `timeout_s` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._adapters) < self._limit, timeout_s):
                raise OverloadedError(
                    f"All {self._limit} adapter slots are in use.", remedy="Try again when requests have finished."
                )

    def add(self, slot: Slot) -> Lease:
        """Add a loaded slot and lease it: it stays until it is routed or its request ends."""
        assert slot.digest is not None, "the base has its slots from the start"
        with self._changed:
            known = self._adapters.setdefault(slot.digest, slot)
            return self._lease(known)

    def flip(self, generation: int, kind: AdapterKind, digest: str | None) -> bool:
        """Route new requests of `kind` to an adapter that the caller leases, or to the base.

        Returns False when a newer generation is already routed. The slot that loses its route drains, then drops.
        """
        with self._changed:
            if generation < self._routes[kind].generation:
                return False
            slot = self._base[kind] if digest is None else self._adapters[digest]
            self._routes[kind] = Route(generation, slot)
            self._drop_idle()
            return True

    def revoke(self, digests: frozenset[str]) -> None:
        """Refuse new requests of these adapters; requests under way finish."""
        with self._changed:
            for digest, slot in self._adapters.items():
                slot.revoked = slot.revoked or digest in digests

    def release(self, slot: Slot) -> None:
        """End one lease of a slot (called by Lease.release)."""
        with self._changed:
            slot.in_flight -= 1
            self._drop_idle()

    def loaded(self) -> tuple[Slot, ...]:
        """Return the slots of adapters."""
        with self._changed:
            return tuple(self._adapters.values())

    def _lease(self, slot: Slot) -> Lease:
        slot.in_flight += 1
        return Lease(self, slot, self._routes[slot.kind].generation)

    def _drop_idle(self) -> None:
        routed = {id(route.slot) for route in self._routes.values()}
        for digest, slot in list(self._adapters.items()):
            if slot.in_flight == 0 and id(slot) not in routed:
                del self._adapters[digest]
                self._changed.notify_all()
