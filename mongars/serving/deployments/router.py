"""Which replica answers a request: one on the newest generation before one that lags behind.

Owns the order of preference. Must not know what a generation is: each replica reports a number
(`LLMServeDeployment.record_routing_stats`), and the highest wins. Within a rank it is the power of two choices, as
Serve's own router has it (Mitzenmacher 2001, doi:10.1109/71.963420).
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from ray.serve.request_router import FIFOMixin, LocalityMixin, PendingRequest, RequestRouter, RunningReplica

GENERATION = "generation"
STATS_PERIOD_S = 1.0
"""A swap takes less, so this is for replicas that cannot follow: they get what the others cannot take."""
CHOICES = 2


class NewestReplicasFirst(FIFOMixin, LocalityMixin, RequestRouter):  # type: ignore[misc] # of Ray, untyped
    """Sends a request to a replica of an older generation only when none of a newer one accepts it."""

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
    """Return replicas in groups, the newest generation first; one that has not reported yet counts as oldest."""
    groups: dict[int, list[Any]] = {}
    for replica in replicas:
        groups.setdefault(replica.routing_stats.get(GENERATION, -1), []).append(replica)
    return [groups[generation] for generation in sorted(groups, reverse=True)]
