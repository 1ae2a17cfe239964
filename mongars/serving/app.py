"""The application of every serve config, and its deployment from Python.

Serve configs import `mongars.serving.app:build_app`. This module must not use `from __future__ import
annotations`: Serve reads the annotation of `build_app` to build AppArgs, and would pass a plain dict instead.
"""

import math
import socket
import time

import httpx
import psutil
from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from mongars.errors import PortInUseError, ResourceError, UnavailableError
from mongars.lm.base_files import base_folder
from mongars.registry import read_shapes
from mongars.serving.deployments.args import AppArgs
from mongars.serving.deployments.llm import LLMServeDeployment
from mongars.serving.deployments.memory import MemoryDeployment
from mongars.serving.deployments.router import STATS_PERIOD_S, NewestReplicasFirst
from mongars.serving.http.auth import KeyRing
from mongars.serving.http.ingress import Ingress

__all__ = ["APP_NAME", "AppArgs", "build_app", "deploy_ray_service", "require_free_port", "require_memory"]

APP_NAME = "mongars"
READY_TIMEOUT_S = 120.0
READY_PAUSE_S = 0.1
OPEN_REQUESTS = 1000
"""Open requests of one ingress or memory; the engines behind them refuse with 429 long before."""
CONSTRUCTOR_TRIES = 3
"""Serve's default of 20 would take minutes to report a missing base model."""
# Resident memory, shared pages counted in each process: of a model replica without its base, and of memory,
# ingress, proxy, controller and registry together.
REPLICA_BYTES = 600 * 10**6
OTHER_BYTES = 1220 * 10**6
FLOAT32_BYTES, BFLOAT16_BYTES = 4, 2


def build_app(args: AppArgs) -> Application:
    """Bind Ingress, with Cortex in it, over MemoryDeployment and LLMServeDeployment.

    No deployment asks for CPUs, so that the whole application fits next to a training run on the same small
    machine; `serve_configs/production.yaml` reserves them.
    """
    llm = serve.deployment(
        LLMServeDeployment,
        num_replicas=args.llm_replicas,
        max_ongoing_requests=args.chats + args.embeds,
        max_queued_requests=args.chats + args.embeds,
        request_router_config=RequestRouterConfig(
            request_router_class=NewestReplicasFirst, request_routing_stats_period_s=STATS_PERIOD_S
        ),
        max_constructor_retry_count=CONSTRUCTOR_TRIES,
        ray_actor_options={"num_cpus": 0},
    ).bind(args)
    memory = serve.deployment(
        MemoryDeployment,
        max_ongoing_requests=OPEN_REQUESTS,
        max_constructor_retry_count=CONSTRUCTOR_TRIES,
        ray_actor_options={"num_cpus": 0},
    ).bind(args, llm)
    return serve.deployment(
        serve.ingress()(Ingress),
        name="Ingress",
        max_ongoing_requests=OPEN_REQUESTS,
        max_constructor_retry_count=CONSTRUCTOR_TRIES,
        ray_actor_options={"num_cpus": 0},
    ).bind(args, memory, llm)


def deploy_ray_service(args: AppArgs, *, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Deploy on the Ray that this process is connected to, and return when the application answers.

    Raises PortInUseError, ResourceError, SettingsError (no keys file), ModelNotFoundError (no base model) before
    anything starts, and UnavailableError when it does not become ready.
    """
    require_free_port(host, port)
    require_memory(args)
    KeyRing(args.settings.keys_file)
    base_folder(args.settings.base_model)
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    try:
        serve.run(build_app(args), name=APP_NAME, route_prefix="/")
    except RuntimeError as error:  # raised by Serve when constructors keep failing, with their traces as text
        raise UnavailableError(
            f"The application did not start: {_reason(str(error))}", remedy="See the logs in Ray's session folder."
        ) from error
    wait_until_ready(f"http://{host}:{port}/readyz")


def wait_until_ready(url: str, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return when `url` answers 200. Raises UnavailableError after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    last = "no answer"
    with httpx.Client(timeout=5.0) as http:
        while time.monotonic() < deadline:
            try:
                response = http.get(url)
            except httpx.TransportError as error:
                last = type(error).__name__
            else:
                if response.is_success:
                    return
                last = response.text
            time.sleep(READY_PAUSE_S)
    raise UnavailableError(
        f"{url} was not ready in {timeout_s:.0f} s: {last}", remedy="See the logs of Ray Serve."
    )


def require_free_port(host: str, port: int) -> None:
    """Raise PortInUseError when the port is in use or the address is not this machine's."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(
                f"Cannot listen on {host}:{port} ({error.strerror}).",
                remedy=f"Stop the program that listens there, or choose another port: make serve PORT={port + 1}",
            ) from None


def require_memory(args: AppArgs) -> None:
    """Raise ResourceError when the replicas would not fit into the free memory."""
    values = sum(math.prod(shape) for shape in read_shapes(base_folder(args.settings.base_model)).values())
    # A CPU computes in float32 unless bf16 is requested; a GPU is loaded through the CPU.
    base = values * (BFLOAT16_BYTES if args.dtype == "bfloat16" else FLOAT32_BYTES)
    needed = args.llm_replicas * (REPLICA_BYTES + base) + OTHER_BYTES
    free = psutil.virtual_memory().available
    if free < needed:
        raise ResourceError(
            f"{args.llm_replicas} replicas need about {needed / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free.",
            remedy="Close other programs, use fewer replicas, or a smaller base model (MONGARS_BASE_MODEL).",
        )


def _reason(text: str) -> str:
    """Return the last line of Serve's report that names an error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    return (named or lines or ["no reason was given"])[-1]
