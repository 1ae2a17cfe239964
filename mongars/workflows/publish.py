"""Publish an adapter folder: validate it, store it and make it the current version of its kind."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.records import AdapterKind, RegistryStatus
from mongars.settings import Settings
from mongars.workflows.wiring import base_spec, open_registry

if TYPE_CHECKING:
    from mongars.registry import Publication as Publication  # noqa: PLC0414 (for the command line)

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Published:
    """A publication, and the replicas that have loaded it; None without a server."""

    publication: "Publication"
    replicas: tuple[str, ...] | None = None


def publish(
    settings: Settings,
    folder: Path,
    name: str,
    kind: AdapterKind = "encoder",
    *,
    ray: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Published:
    """Publish through the server on the Ray at `ray` and wait for every replica, or without `ray` in storage.

    A running server notices a change of storage later. Publishing the current adapter again changes nothing.
    Raises AdapterRefusedError for a folder that is no adapter of the base, ModelNotFoundError without the base;
    with `ray` UnavailableError without a server, or when a replica takes longer than `timeout_s`.
    """
    from mongars.registry import PublishRequest

    request = PublishRequest(folder, name, base_spec(settings.base_model), kind)
    if ray is None:
        return Published(open_registry(settings).publish(request))
    from mongars.evolution.rollout import Rollout
    from mongars.registry.actor import BlockingRegistryClient
    from mongars.serving.cluster import ray_session

    with ray_session(settings, ray):
        client = BlockingRegistryClient.connect(settings.ray_namespace)
        done = client.publish(request)
        replicas = tuple(one.replica for one in client.status().replicas)
        Rollout(client).to_all(done.generation, replicas, timeout_s)
    return Published(done, replicas)


def registry_status(settings: Settings) -> RegistryStatus:
    """Return what the server serves; this process must be connected to its Ray."""
    from mongars.registry.actor import BlockingRegistryClient

    return BlockingRegistryClient.connect(settings.ray_namespace).status()
