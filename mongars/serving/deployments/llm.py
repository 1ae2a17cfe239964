"""LLMServeDeployment: an Engine as a Ray Serve replica that follows the registry.

A replica adopts the current generation before it is ready. Other deployments call it through `clients.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

import torch
from ray import serve

from mongars import telemetry
from mongars.errors import SettingsError, UnavailableError
from mongars.lm.base import Base, load_base, resolve_dtype
from mongars.records import AdapterKind, AdapterStamp, Embeddings, GenerationPiece, GenerationRequest
from mongars.registry.actor import RegistryClient
from mongars.registry.registry import open_store
from mongars.serving.deployments.args import AppArgs
from mongars.serving.deployments.router import GENERATION
from mongars.serving.engine.engine import Engine, EngineLimits
from mongars.serving.engine.ephemeral_thread import run_in_ephemeral_thread
from mongars.serving.engine.load_gate import adapter_load_slot, load_gate_folder
from mongars.serving.engine.reconcile import Reconciler
from mongars.serving.engine.slots import Lease


class LLMServeDeployment:
    """Generates and embeds. Each answer names the version that made it."""

    async def __init__(self, args: AppArgs) -> None:  # type: ignore[misc]  # Serve awaits it: loading blocks no health check
        """Load the base and the current adapters. Raises what either raises; the replica then is not ready."""
        settings = args.settings
        telemetry.configure("mongars-llm", otlp_endpoint=settings.otlp_endpoint)
        torch.set_num_threads(args.torch_threads)
        # On ephemeral threads, as every load: OpenMP keeps no worker threads for them.
        base = await run_in_ephemeral_thread(served_base, args)
        limits = EngineLimits(
            slots=args.slots,
            chats=args.chats,
            embeds=args.embeds,
            rows=args.rows,
            prefill_tokens=args.prefill_tokens,
            cache_bytes=args.cache_bytes,
        )
        load_gate = partial(adapter_load_slot, load_gate_folder(settings.home))
        self._engine = await run_in_ephemeral_thread(Engine, base, limits, load_gate=load_gate)
        encoders = (settings.encoders_dir, settings.encoders_url)
        registry = await RegistryClient.connect_or_create(settings.ray_namespace, *encoders)
        replica = serve.get_replica_context().replica_id.unique_id
        self._reconciler = Reconciler(self._engine, registry, open_store(*encoders), replica)
        await self._reconciler.start()
        self._following = asyncio.create_task(self._reconciler.run())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationPiece, None]:
        """Return Engine.generate's generator, which Serve iterates and closes."""
        return self._engine.generate(request, partial(self._lease, "chat", request.adapter))

    async def embed(
        self, texts: Sequence[str], dimensions: int | None = None, adapter: str | None = None
    ) -> Embeddings:
        """Return a vector for each text; see Engine.embed."""
        return await self._engine.embed(texts, dimensions=dimensions, lease=await self._lease("encoder", adapter))

    async def stamp(self) -> AdapterStamp:
        """Return the version that an embedding would be made with now."""
        lease = self._engine.lease("encoder")
        lease.release()
        return lease.stamp

    async def context_tokens(self) -> int:
        """Return how many tokens prompt and reply may have together."""
        return self._engine.context_tokens

    async def status(self) -> dict[str, Any]:
        """Return this replica's generation, slots, load and failures."""
        return {**self._reconciler.status(), **self._engine.status()}

    async def record_routing_stats(self) -> dict[str, int]:
        """Return the generation, by which the router ranks replicas; Serve calls this method by name."""
        return {GENERATION: self._engine.generation}

    async def check_health(self) -> None:
        """Raise when the replica no longer follows the registry: Serve then replaces it."""
        if self._following.done():
            raise UnavailableError("This replica no longer follows the registry.", remedy="See its log.")

    async def _lease(self, kind: AdapterKind, digest: str | None) -> Lease:
        return self._engine.lease(kind) if digest is None else await self._reconciler.lease(kind, digest)


def served_base(args: AppArgs) -> Base:
    """Load the base on the device and in the dtype of the arguments.

    Raises SettingsError for a device or dtype that this machine lacks, and what `load_base` raises.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "device is cuda, but this replica sees no GPU.",
            remedy="Set num_gpus for LLMServeDeployment, or device: cpu.",
        )
    dtype = resolve_dtype(args.dtype, args.device)
    base = load_base(
        args.settings.base_model,
        dtype=dtype,
        packed=args.device == "cpu",
        cpu_optimizations=args.settings.cpu_optimizations,
    )
    base.model.to(args.device)
    return base
