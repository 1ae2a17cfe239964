"""Engine: one base in memory, adapter versions as slots over it, and generation and embedding through them.

A plain class without Ray, which `deployments/llm.py` wraps. The weights of a request never change under it: each
version is its own module tree over the base's tensors, and a request leases the version it was admitted to.

One thread generates (`generation/`) and one embeds, so that a tree has one caller at a time.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mongars.errors import AdapterRefusedError, SettingsError
from mongars.lm.adapter_template import AdapterTemplate
from mongars.lm.adapters import attach_adapter, clone_sharing_tensors
from mongars.lm.base import Base
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.records import (
    ADAPTER_KINDS,
    AdapterKind,
    AdapterRef,
    Embeddings,
    GenerationPiece,
    GenerationRequest,
)
from mongars.serving.engine.admission import AdmissionLimit
from mongars.serving.engine.embedding import EmbeddingScheduler
from mongars.serving.engine.slots import SLOTS, Lease, Slot, SlotTable
from mongars.serving.generation.delta_queue import DeltaQueue
from mongars.serving.generation.prompt import end_tokens, max_new_tokens, prompt_tokens
from mongars.serving.generation.scheduler import Scheduler
from mongars.serving.generation.self_check import check_batch_invariance
from mongars.serving.generation.sequence import TokenSequence
from mongars.storage.digests import folder_digest

LoadGate = Callable[[], AbstractContextManager[None]]
PROBE = "The quick brown fox."


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of one replica. `chats` and `embeds` count requests that run or wait; one more is refused.

    `rows` is how many sequences of one version are generated at once, `cache_bytes` the size of their KV cache,
    `prefill_tokens` the size of a prefill pass between two of their tokens. `drain_timeout_s` is how long a load
    waits for a free slot.
    """

    slots: int = SLOTS
    chats: int = 64
    rows: int = 32
    prefill_tokens: int = 512
    cache_bytes: int = 512 * 2**20
    embeds: int = 64
    drain_timeout_s: float = 60.0


class Engine:
    """Generates and embeds. `generate` and `embed` run on an event loop; `adopt` and `open` block.

    A load runs inside `load_gate`, which waits for other loads on the same machine.
    """

    def __init__(
        self, base: Base, limits: EngineLimits | None = None, *, load_gate: LoadGate = nullcontext
    ) -> None:
        import_module("peft")  # it loads adapters; the first load would spend seconds on its import
        self.base = base
        self.limits = limits or EngineLimits()
        if not base.tokenizer.chat_template:
            raise SettingsError(
                f"The base model {base.path.name} has no chat template, so it cannot chat.",
                remedy="Set MONGARS_BASE_MODEL to an instruction-tuned model.",
            )
        bare = {kind: self._bare(kind) for kind in ADAPTER_KINDS}
        self._slots = SlotTable(bare, base_digest=base.digest, limit=self.limits.slots)
        self._loading, self._load_gate = threading.Lock(), load_gate
        self._templates: dict[AdapterKind, AdapterTemplate] = {}
        check_batch_invariance(self.base.model)
        self._eos_ids = end_tokens(base.model, base.tokenizer)
        self._chats, self._embeds = (
            AdmissionLimit("chat", self.limits.chats),
            AdmissionLimit("embedding", self.limits.embeds),
        )
        self._generating = Scheduler(
            rows=self.limits.rows,
            prefill_tokens=self.limits.prefill_tokens,
            cache_bytes=self.limits.cache_bytes,
        )
        self._embedding = EmbeddingScheduler()

    @property
    def generation(self) -> int:
        """Return the generation that the routes of all kinds have reached."""
        return min(route.generation for route in self._slots.routes.values())

    @property
    def current(self) -> dict[AdapterKind, str | None]:
        """Return the routed digest of each kind; None is the base."""
        return {kind: route.slot.digest for kind, route in self._slots.routes.items()}

    @property
    def context_tokens(self) -> int:
        """Return how many tokens prompt and reply may have together."""
        config: Any = self.base.model.config
        return int(config.max_position_embeddings)

    def adopt(
        self,
        generation: int,
        current: Mapping[AdapterKind, tuple[AdapterRef, Path] | None],
        *,
        revoked: frozenset[str] = frozenset(),
    ) -> bool:
        """Load the versions in `current` and route new requests to them, kind by kind.

        Returns False when a newer generation is already routed. On an error the kinds that are not loaded keep
        their old version. Requests under way keep the version they began with; a version without leases is
        dropped. Raises AdapterRefusedError, or OverloadedError when no slot drains in time.
        """
        # Kinds that need no slot come first: they may free one for the others.
        order = sorted(ADAPTER_KINDS, key=lambda kind: current.get(kind) is not None)
        try:
            flipped = [self._route(generation, kind, current.get(kind)) for kind in order]
            return all(flipped)
        finally:
            self._slots.revoke(revoked)  # even when the replacement cannot be loaded

    def open(self, ref: AdapterRef, folder: Path) -> Lease:
        """Lease the slot of an adapter, loading it first if necessary. Raises as `adopt` does."""
        with self._loading:
            if (lease := self._slots.lease_loaded(ref.digest)) is not None:
                return lease
            self._slots.wait_for_room(self.limits.drain_timeout_s)
            with self._load_gate():
                slot = self._load(ref, folder)
            return self._slots.add(slot)

    def lease(self, kind: AdapterKind, digest: str | None = None) -> Lease:
        """Lease the current slot of `kind`, or a named adapter's. Raises ModelNotFoundError."""
        return self._slots.lease(kind, digest)

    async def generate(
        self, request: GenerationRequest, acquire: Callable[[], Awaitable[Lease]] | None = None
    ) -> AsyncGenerator[GenerationPiece, None]:
        """Yield a reply in pieces; the last one has `finish_reason` and usage.

        `acquire` leases the slot, by default one in memory. It is called with the first piece, because a generator
        that is never started would never release a lease. Closing the generator ends the generation within a pass.
        Raises ModelNotFoundError, OverloadedError, InputError, and what `acquire` raises.
        """
        lease = await acquire() if acquire else self.lease("chat", request.adapter)
        deltas = DeltaQueue(asyncio.get_running_loop())
        sequence = await self._start(request, lease, deltas)
        try:
            while (text := await deltas.next()) is not None:
                yield GenerationPiece(text=text, stamp=lease.stamp)
            reason, usage = sequence.result.result(timeout=0)  # set before the queue ends
            yield GenerationPiece(text="", stamp=lease.stamp, finish_reason=reason, usage=usage)
        finally:
            sequence.cancelled.set()

    async def embed(
        self, texts: Sequence[str], *, dimensions: int | None = None, lease: Lease | None = None
    ) -> Embeddings:
        """Return a vector for each text by the current encoder, or by the leased one.

        Raises OverloadedError; InputError for an empty text or impossible dimensions.
        """
        lease = lease or self.lease("encoder")
        neurons: Neurons = lease.slot.model
        with self._admission(self._embeds, lease) as stack:
            neurons.check_dimensions(dimensions)
            windows = await asyncio.to_thread(neurons.tokenize, texts)
            on_end = stack.pop_all()
        future = self._embedding.submit(neurons, windows, dimensions)
        future.add_done_callback(lambda _: on_end.close())
        vectors, tokens = await asyncio.wrap_future(future)
        return Embeddings(
            vectors=vectors.astype("<f4").tobytes(),
            count=vectors.shape[0],
            dimensions=vectors.shape[1],
            prompt_tokens=tokens,
            stamp=lease.stamp,
        )

    async def _start(self, request: GenerationRequest, lease: Lease, deltas: DeltaQueue) -> TokenSequence:
        """Start the sequence of a request; the lease is released when it ends."""
        with self._admission(self._chats, lease) as stack:
            tokenizer = self.base.tokenizer
            tokens = await asyncio.to_thread(prompt_tokens, tokenizer, request)
            sequence = TokenSequence(
                tokens,
                request.sampling,
                max_new_tokens=max_new_tokens(len(tokens), self.context_tokens),
                eos_ids=self._eos_ids,
                tokenizer=tokenizer,
                emit=deltas.put,
            )
            on_end = stack.pop_all()
        on_end.callback(deltas.end)
        sequence.result.add_done_callback(lambda _: on_end.close())
        self._generating.submit(lease.slot.model, sequence)
        return sequence

    def status(self) -> dict[str, Any]:
        """Return the routes, slots and requests under way, as JSON values."""
        slots = [
            {"kind": slot.kind, "digest": slot.digest, "in_flight": slot.in_flight}
            for slot in self._slots.loaded()
        ]
        return {
            "generation": self.generation,
            "current": self.current,
            "slots": slots,
            "chats": self._chats.count,
            "embeds": self._embeds.count,
            "context_tokens": self.context_tokens,
        }

    def close(self) -> None:
        """Stop both threads after their current pass."""
        self._generating.close()
        self._embedding.close()

    @contextmanager
    def _admission(self, limit: AdmissionLimit, lease: Lease) -> Iterator[ExitStack]:
        """Admit a request and yield the stack that ends it, with the block unless the block takes it over."""
        with ExitStack() as stack:
            stack.callback(lease.release)
            limit.acquire()
            stack.callback(limit.release)
            yield stack

    def _route(self, generation: int, kind: AdapterKind, target: tuple[AdapterRef, Path] | None) -> bool:
        if target is None:
            return self._slots.flip(generation, kind, None)
        lease = self.open(*target)
        try:
            return self._slots.flip(generation, kind, target[0].digest)
        finally:
            lease.release()

    def _bare(self, kind: AdapterKind) -> Slot:
        if kind == "chat":
            return Slot(kind, None, clone_sharing_tensors(self.base.model).eval())
        return Slot(kind, None, Neurons(bidirectional_encoder(self.base), self.base.tokenizer))

    def _load(self, ref: AdapterRef, folder: Path) -> Slot:
        """Build the slot of an adapter after checking its base, its digest, and a pass for finite values."""
        if ref.base_digest != self.base.digest:
            raise AdapterRefusedError(
                f"Adapter {ref.name}@{ref.digest[:12]} belongs to base {ref.base_digest[:12]}, "
                f"not to {self.base.digest[:12]}.",
                remedy="Train it again on this base, or serve its base.",
            )
        if not folder.is_dir() or folder_digest(folder) != ref.digest:
            raise AdapterRefusedError(
                f"The files of adapter {ref.name}@{ref.digest[:12]} are missing or were changed.",
                remedy="Roll back with: mongars adapters rollback",
            )
        adapted = self._adapted(ref.kind, folder)
        slot = Slot(ref.kind, ref, adapted if ref.kind == "chat" else Neurons(adapted, self.base.tokenizer))
        if not _is_finite(slot, self.base.tokenizer):
            raise AdapterRefusedError(f"Adapter {ref.name}@{ref.digest[:12]} gives values that are not finite.")
        return slot

    def _adapted(self, kind: AdapterKind, folder: Path) -> nn.Module:
        """Return a tree with the adapter in it, without peft when an earlier adapter had the same form."""
        template = self._templates.get(kind)
        if template and template.fits(folder):
            return template.filled(folder)
        bare = clone_sharing_tensors(self.base.model) if kind == "chat" else bidirectional_encoder(self.base)
        adapted = attach_adapter(clone_sharing_tensors(bare), folder)
        template = AdapterTemplate.of(bare, adapted)
        if template is None:
            return adapted
        self._templates[kind] = template
        return template.filled(folder)  # so that all versions of a form compute in the same way


def _is_finite(slot: Slot, tokenizer: Any) -> bool:
    """Return whether a forward pass of PROBE gives finite values."""
    if slot.kind == "encoder":
        vectors, _ = slot.model.encode([PROBE])
        return bool(torch.isfinite(torch.from_numpy(vectors)).all())
    ids = tokenizer(PROBE, return_tensors="pt")["input_ids"].to(slot.model.device)
    with torch.inference_mode():
        return bool(torch.isfinite(slot.model(input_ids=ids).logits).all())
