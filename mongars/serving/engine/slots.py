"""Slots: the adapter versions that one replica holds, and which of them new requests go to.

Owns the routes (one pointer for each kind of adapter), the reference counts and the bound on slots. Must not know
how a model is loaded or run. Every method may be called from any thread.

Each kind has a route of its own: a replica that must take in a new encoder and a new chat adapter flips one after
the other, so that the old one of the first drains before the second is loaded, and three slots are enough. What a
request claims is the generation of its own kind's route.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mongars.errors import ModelNotFoundError, OverloadedError
from mongars.records import AdapterKind, AdapterRef, AdapterStamp

SLOTS = 3
"""Current encoder, current chat adapter, and one that is loading or draining."""


@dataclass(eq=False, slots=True)
class Slot:
    """A module tree of its own over the base's tensors. `ref` is None for the base itself.

    `revoked` means that new requests are refused while old ones finish.
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
    """Where requests of one kind go that name no adapter. Replaced whole, never changed."""

    generation: int
    slot: Slot


class Lease:
    """A request's hold on its slot, and what its answer may claim. Release it once; more does nothing."""

    def __init__(self, table: "SlotTable", slot: Slot, generation: int) -> None:
        self._table: SlotTable | None = table
        self.slot = slot
        name, digest = (slot.ref.name, slot.ref.digest) if slot.ref else (None, None)
        self.stamp = AdapterStamp(generation, name, digest, base=table.base_digest)

    def release(self) -> None:
        """Let go; the last one to leave a slot that is no longer routed drops it."""
        table, self._table = self._table, None
        if table is not None:
            table.release(self.slot)


class SlotTable:
    """The slots of a replica. The base's own slots own no tensors, stay for ever and do not count."""

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
        """Return where requests go now, by kind."""
        with self._changed:
            return dict(self._routes)

    def lease(self, kind: AdapterKind, digest: str | None = None) -> Lease:
        """Hold the current slot of `kind`, or the loaded slot of a named adapter.

        Raises ModelNotFoundError when the named adapter is not loaded here, is revoked, or is of another kind.
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
        """Hold the slot of an adapter that is in memory, or return None."""
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
        """Take in a loaded slot and hold it, so that it stays until it is routed or its request is over."""
        assert slot.digest is not None, "the base's slots are given at the start"
        with self._changed:
            known = self._adapters.setdefault(slot.digest, slot)
            return self._lease(known)

    def flip(self, generation: int, kind: AdapterKind, digest: str | None) -> bool:
        """Send new requests of `kind` to an adapter that the caller holds, or to the base.

        Returns False when a newer generation is routed already. The slot that loses its route drains and drops.
        """
        with self._changed:
            if generation < self._routes[kind].generation:
                return False
            slot = self._base[kind] if digest is None else self._adapters[digest]
            self._routes[kind] = Route(generation, slot)
            self._drop_idle()
            return True

    def revoke(self, digests: frozenset[str]) -> None:
        """Admit no new request to these adapters; requests that are under way finish."""
        with self._changed:
            for digest, slot in self._adapters.items():
                slot.revoked = slot.revoked or digest in digests

    def release(self, slot: Slot) -> None:
        """Count one request less on a slot (Lease.release calls it)."""
        with self._changed:
            slot.in_flight -= 1
            self._drop_idle()

    def loaded(self) -> tuple[Slot, ...]:
        """Return the adapter slots that are in memory."""
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
