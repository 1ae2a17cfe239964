"""The router on a real Serve: replicas of an older generation get only what the newest cannot take."""

import asyncio
import sys
import time

import pytest
import ray
from ray import cloudpickle, serve
from ray.serve.config import RequestRouterConfig

from mongars.serving.deployments.router import GENERATION, NewestReplicasFirst

pytestmark = pytest.mark.ray
TOGETHER = 8


class Lagging:
    """Three replicas, of which the first is a generation behind; each takes two requests at once."""

    def __init__(self):
        self.rank = serve.get_replica_context().rank.rank

    def record_routing_stats(self):
        return {GENERATION: 7 if self.rank else 6}

    async def __call__(self, meeting=None):
        """Return the rank; with a meeting, once all the requests that it expects have arrived."""
        if meeting:
            await meeting.arrive.remote()
        return self.rank


@ray.remote(num_cpus=0)
class Meeting:
    def __init__(self, expected):
        self.missing, self.complete = expected, asyncio.Event()

    async def arrive(self):
        self.missing -= 1
        if not self.missing:
            self.complete.set()
        await self.complete.wait()


@pytest.fixture(scope="module")
def handle(app):
    deployment = serve.deployment(
        Lagging,
        num_replicas=3,
        max_ongoing_requests=2,
        request_router_config=RequestRouterConfig(
            request_router_class=NewestReplicasFirst, request_routing_stats_period_s=0.2
        ),
        ray_actor_options={"num_cpus": 0},
    )
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the replicas cannot import this test file
    yield serve.run(deployment.bind(), name="lagging", route_prefix=None)
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    serve.delete("lagging")


def test_a_replica_that_is_behind_gets_requests_only_when_the_newest_are_full(handle):
    deadline = time.monotonic() + 60  # until the router has the first statistics
    while 0 in (ranks := {handle.remote().result() for _ in range(TOGETHER)}):
        assert time.monotonic() < deadline, "the statistics never came"
    while len(ranks) < 2:
        ranks |= {handle.remote().result()}
    assert ranks == {1, 2}
    meeting = Meeting.remote(6)
    together = [handle.remote(meeting) for _ in range(6)]
    assert sorted(each.result(timeout_s=60) for each in together) == [0, 0, 1, 1, 2, 2]
