"""The Ray of this process: a running cluster, or a local one of its own."""

import logging
import os
import shutil
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray
import ray.data  # its import configures its loggers, which would undo an earlier `_quiet`

from mongars.errors import ResourceError, UnavailableError
from mongars.settings import Settings
from mongars.storage.atomic import writable_folder

MIN_FREE_MEMORY = 3 * 2**30
"""Enough for the application with two replicas of the small base."""
MIN_FREE_DISK = 2 * 2**30
OBJECT_STORE_BYTES = 512 * 2**20
"""Rows and replies are small; Ray's default of 30 % of the memory would starve the model replicas."""
MIN_CPUS = 2
"""Two training workers need a CPU each. More logical CPUs than cores would slow curation down."""
CONNECT_TIMEOUT_S = 5.0
# Read by Serve's processes at start. The proxy talks to the ingress by gRPC, as our replicas talk to each other
# (`clients.direct`). A replica's work and routing share the event loop of its answers, which our code never blocks
# (docs/results/serving.md).
SERVE_ENVIRONMENT = {
    "RAY_SERVE_PROXY_USE_GRPC": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


def check_resources(folder: Path, *, free_memory: int = MIN_FREE_MEMORY) -> None:
    """Check that `free_memory` bytes are available, and enough disk at `folder`.

    Raises ResourceError that names the shortage in GiB, InputError when `folder` cannot be one.
    """
    memory = psutil.virtual_memory().available
    if memory < free_memory:
        raise ResourceError(
            f"Only {memory / 2**30:.1f} GiB of memory are free; {free_memory / 2**30:.0f} GiB are needed.",
            remedy="Close other programs, or use a machine with more memory.",
        )
    writable_folder(folder, private=True)
    disk = shutil.disk_usage(folder).free
    if disk < MIN_FREE_DISK:
        raise ResourceError(
            f"Only {disk / 2**30:.1f} GiB are free at {folder}; {MIN_FREE_DISK / 2**30:.0f} GiB are needed.",
            remedy="Free some space, or set MONGARS_HOME to a folder on another disk.",
        )


def start_local_ray(settings: Settings) -> None:
    """Start a Ray for this process only.

    Even a local Ray listens on the machine's own address, not on loopback; its token, on by default since Ray
    2.60, keeps others out.

    Raises ResourceError when memory or disk are short.
    """
    check_resources(settings.home)
    for name, value in SERVE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        namespace=settings.ray_namespace,
        num_cpus=max(MIN_CPUS, psutil.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def connect_to_ray(settings: Settings, address: str) -> None:
    """Connect to a running Ray; `address` "auto" finds the one on this machine. Raises UnavailableError."""
    if address != "auto":
        _require_listener(address)
    try:
        ray.init(
            address=address, namespace=settings.ray_namespace, log_to_driver=False, logging_level=logging.ERROR
        )
    except ConnectionError:
        raise _no_ray(address) from None


def _require_listener(address: str) -> None:
    """Raise UnavailableError when nothing listens at `host:port`: Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        raise _no_ray(address) from None


def _no_ray(address: str) -> UnavailableError:
    return UnavailableError(
        f"No Ray answers at {address!r}.", remedy="Start one with `make serve` or `ray start --head`."
    )


@contextmanager
def ray_session(settings: Settings, address: str | None) -> Iterator[None]:
    """Connect to the Ray at `address`, or start a local one that ends with the block."""
    _quiet()
    if address is None:
        start_local_ray(settings)
    else:
        connect_to_ray(settings, address)
    try:
        yield
    finally:
        ray.shutdown()


def _quiet() -> None:
    """Keep the terminal for our own progress; Ray's log files in its session folder still get everything."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    for handler in logging.getLogger("ray.data").handlers:
        if handler.get_name() == "console":
            handler.setLevel(logging.ERROR)
    # peft imports a deprecated name from transformers; users cannot change that.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
