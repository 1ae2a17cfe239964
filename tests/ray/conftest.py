"""One local Ray for all tests of this folder."""

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Start a Ray of four logical CPUs in this process; starting takes seconds, so the session shares it."""
    ray.init(address="local", num_cpus=4, namespace="mongars", include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
