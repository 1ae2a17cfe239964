"""List adapter versions, and change which one is served: promote, roll back, revoke, prune.

Storage is changed directly, with or without a running server, which notices the change.
"""

from typing import TYPE_CHECKING

from mongars.records import AdapterKind, AdapterRef
from mongars.settings import Settings
from mongars.workflows.wiring import open_registry

if TYPE_CHECKING:
    from mongars.registry import AdapterManifest, Publication


def list_adapters(settings: Settings) -> "AdapterManifest":
    """Return every version and which one is current."""
    return open_registry(settings).snapshot()


def promote(settings: Settings, digest: str) -> "Publication":
    """Make a registered version the current one of its kind."""
    return open_registry(settings).promote(digest)


def roll_back(settings: Settings, kind: AdapterKind = "encoder") -> "Publication":
    """Make the version before the current one current again, as a new generation."""
    return open_registry(settings).rollback(kind)


def revoke(settings: Settings, digest: str) -> "Publication":
    """Withdraw a version for good."""
    return open_registry(settings).revoke(digest)


def prune(settings: Settings, keep: int, *, preview: bool = True) -> tuple[AdapterRef, ...]:
    """Return the older versions, without the `keep` newest of each kind; remove their files unless `preview`."""
    registry = open_registry(settings)
    return tuple(registry.prunable(keep) if preview else registry.prune(keep))


def served_encoders(settings: Settings) -> list[tuple[int, str | None]]:
    """Return each generation and the encoder that it serves, None for the base, oldest first."""
    current: str | None = None
    served: list[tuple[int, str | None]] = [(0, None)]
    for entry in open_registry(settings).snapshot().history:
        if entry.kind == "encoder" and entry.action in ("publish", "promote", "rollback"):
            current = entry.digest
        served.append((entry.generation, current))
    return served
