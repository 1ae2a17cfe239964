"""The registry survives the loss of the node that its actor runs on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from mongars.registry import BaseSpec, PublishRequest
from mongars.registry.actor import ACTOR_NAME, ACTOR_OPTIONS, BlockingRegistryClient
from mongars.registry.service import RegistryService

pytestmark = pytest.mark.ray
NAMESPACE = "node-loss"
BASE = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a head node and connect to it. The test adds and removes the others."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_the_registry_survives_the_node_of_its_actor(
    cluster: Cluster, tmp_path: Path, write_adapter: Callable[..., Path]
) -> None:
    root = tmp_path / "encoders"
    node: Any = cluster.add_node(num_cpus=1, resources={"registry": 1})
    actor = ray.remote(RegistryService).options(**ACTOR_OPTIONS, resources={"registry": 1}).remote(str(root), None)
    client = BlockingRegistryClient.connect(NAMESPACE)
    done = client.publish(PublishRequest(write_adapter(tmp_path / "one", 1), "a", BASE))
    assert node_of(actor) == node.node_id
    cluster.remove_node(node)
    other: Any = cluster.add_node(num_cpus=1, resources={"registry": 1})
    assert client.snapshot().served("encoder") == done.adapter
    again = client.publish(PublishRequest(write_adapter(tmp_path / "two", 2), "a", BASE))
    assert again.generation == 2
    assert node_of(ray.get_actor(ACTOR_NAME, namespace=NAMESPACE)) == other.node_id


def node_of(actor: Any) -> str:
    return str(ray.get(actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())))
