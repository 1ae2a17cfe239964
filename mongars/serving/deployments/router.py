"""The request router: replicas of the newest generation come before those that lag.

Each replica reports its generation (`LLMServeDeployment.record_routing_stats`). Within a generation the power of
two choices decides, as in Serve's own router (Mitzenmacher 2001, doi:10.1109/71.963420).
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from ray.serve.request_router import FIFOMixin, LocalityMixin, PendingRequest, RequestRouter, RunningReplica

GENERATION = "generation"
STATS_PERIOD_S = 1.0
"""Longer than a swap: the order matters for replicas that cannot follow."""
CHOICES = 2


class NewestReplicasFirst(FIFOMixin, LocalityMixin, RequestRouter):  # type: ignore[misc] # of Ray, untyped
    """Sends a request to a replica of an older generation only when no newer one accepts it."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return up to two replicas of each generation, the newest first."""
        near = self.apply_locality_routing(pending_request=pending_request)
        return [
            random.sample(rank, min(CHOICES, len(rank)))
            for rank in by_generation(replica for replica in candidate_replicas if replica.replica_id in near)
        ]


def by_generation(replicas: Iterable[Any]) -> Sequence[list[Any]]:
    """Return replicas in groups, newest generation first; one that has not reported yet counts as oldest."""
    groups: dict[int, list[Any]] = {}
    for replica in replicas:
        groups.setdefault(replica.routing_stats.get(GENERATION, -1), []).append(replica)
    return [groups[generation] for generation in sorted(groups, reverse=True)]
