"""A rollout waits for all replicas, or names the late ones."""

from collections.abc import Collection

import pytest

from mongars.errors import UnavailableError
from mongars.evolution.rollout import Rollout
from mongars.records import RegistryStatus, ReplicaStatus, now


class Registry:
    """A registry with fixed acknowledgements."""

    def __init__(self, **generations: int) -> None:
        replicas = tuple(ReplicaStatus(name, each, {}, now()) for name, each in generations.items())
        self.status = RegistryStatus(max(generations.values(), default=0), {}, replicas, 0)

    def wait_acknowledged(self, generation: int, replicas: Collection[str], timeout_s: float) -> RegistryStatus:
        return self.status


def test_a_newer_generation_counts_as_acknowledged() -> None:
    assert Rollout(Registry(one=3, two=4)).to_all(3, ["one", "two"], 1.0).generation == 4


def test_late_and_unknown_replicas_are_named() -> None:
    with pytest.raises(UnavailableError, match=r"Generation 3 .* by: gone, two\."):
        Rollout(Registry(one=3, two=2)).to_all(3, ["one", "two", "gone"], 1.0)


def test_without_replicas_there_is_nothing_to_wait_for() -> None:
    assert Rollout(Registry()).to_all(3, [], 1.0).replicas == ()
