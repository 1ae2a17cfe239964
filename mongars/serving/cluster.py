"""Which Ray this process talks to: one that runs, or a local one of its own.

Owns the start of a local Ray and the checks before it. Must not know what is deployed on it.
"""

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
import ray.data  # its import sets up its loggers, which would undo what `_quiet` sets before

from mongars.errors import ResourceError, UnavailableError
from mongars.settings import Settings
from mongars.storage.atomic import writable_folder

# The application alone, with two replicas of the small base, held 2.6 GiB resident (measured on two cores).
MIN_FREE_MEMORY = 3 * 2**30
MIN_FREE_DISK = 2 * 2**30
# Rows and replies are small; Ray's default of 30 % of the memory would starve the model replicas.
OBJECT_STORE_BYTES = 512 * 2**20
# Two training workers ask for a CPU each. More logical CPUs than cores make things slower: curating 300 dialogues
# took 10 to 13 s with two on two cores, 20 to 26 s with four, because each task loads its language models.
MIN_CPUS = 2
CONNECT_TIMEOUT_S = 5.0
# Read by Serve's processes when they start: its proxy talks to the ingress by gRPC, as our replicas do to each
# other (`clients.direct`), and a replica's own work and routing are on the event loop that its answers are on,
# which nothing of ours blocks (docs/results/serving.md).
SERVE_ENVIRONMENT = {
    "RAY_SERVE_PROXY_USE_GRPC": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


def check_resources(folder: Path, *, free_memory: int = MIN_FREE_MEMORY) -> None:
    """Refuse to start what could not finish: `free_memory` bytes must be available, and disk at `folder`.

    Raises ResourceError naming what is short, in GiB, and the remedy, InputError for a folder that is none.
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
    """Start a Ray of this process alone.

    Ray listens on the machine's own address even for a local cluster (it replaces the loopback address);
    its token, on by default since Ray 2.60, keeps others out.

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
    """Connect to a running Ray; `address` "auto" finds the one on this machine.

    Raises UnavailableError when there is none.
    """
    if address != "auto":
        _require_listener(address)
    try:
        ray.init(
            address=address, namespace=settings.ray_namespace, log_to_driver=False, logging_level=logging.ERROR
        )
    except ConnectionError:
        raise _no_ray(address) from None


def _require_listener(address: str) -> None:
    """Raise UnavailableError when nothing listens at `host:port`: Ray itself would try for minutes."""
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
    """Hold a Ray for the time of a command: the one at `address`, else a local one that ends with it."""
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
    """Leave the terminal to our own progress; Ray's log files in its session folder still get everything."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    for handler in logging.getLogger("ray.data").handlers:
        if handler.get_name() == "console":
            handler.setLevel(logging.ERROR)
    # peft asks transformers for a name that is on its way out; no user can do anything about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
