"""Embed texts without a server."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, check_readable, numbered_lines, read_texts
from mongars.records import AdapterRef, Attention
from mongars.settings import Settings
from mongars.workflows.redact import check_output
from mongars.workflows.wiring import SILENT, Progress, open_registry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mongars.lm.base import Base
    from mongars.neurons.neurons import Neurons
    from mongars.neurons.vector_file import Written

    Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]

NO_ADAPTER = "none"


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """`base` is the served one by default; `adapter` is a digest, or `none` for the base without an adapter."""

    base: str | None = None
    adapter: str = NO_ADAPTER
    attention: Attention = "bidirectional"
    force: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """What was written, and the model that made the vectors."""

    written: "Written"
    dimensions: int
    base_name: str
    base_digest: str
    adapter: AdapterRef | None


def embed(
    settings: Settings, source: Path, output: Path, options: EmbedOptions, progress: Progress = SILENT
) -> Embedded:
    """Write the vector of every text in `source` to a Parquet file; report unreadable lines and leave them out.

    Raises InputError for impossible options and files, ModelNotFoundError and AdapterRefusedError for the adapter.
    """
    check_readable(source)
    if options.adapter != NO_ADAPTER and options.attention == "causal":
        raise InputError(
            "Adapters are trained with bidirectional attention; with causal attention their vectors mean nothing.",
            remedy="Leave out --adapter, or --attention.",
            param="attention",
        )
    check_output(source, output, force=options.force)
    from mongars.lm.base import load_base
    from mongars.lm.base_files import base_name
    from mongars.neurons.vector_file import Origin, write_vectors

    name = options.base or settings.base_model
    progress.stage("Loading the base")
    base = load_base(name, packed=True, cpu_optimizations=settings.cpu_optimizations)
    ref, neurons = _encoder(settings, base, options)
    progress.stage("Embedding")
    lines = sum(1 for _ in numbered_lines(source))  # reading the file is cheap compared to embedding it

    def report_bad(bad: BadLine) -> None:
        progress.warn(f"{bad.path}:{bad.line}: {bad.reason}")

    written = write_vectors(
        neurons,
        read_texts(source),
        output,
        Origin(base_name(name), base.digest, ref.digest if ref else None, options.attention),
        on_bad=report_bad,
        on_chunk=_report_rate(progress, lines),
    )
    return Embedded(written, neurons.dimensions, base_name(name), base.digest, ref)


def offline_encoders(settings: Settings, digests: Iterable[str]) -> "dict[str | None, Encode]":
    """Return the encoder of the base, under None, and of each adapter in the registry, loaded from disk."""
    from mongars.lm.base import load_base
    from mongars.registry import open_store

    base = load_base(settings.base_model, cpu_optimizations=settings.cpu_optimizations)
    store = open_store(settings.encoders_dir, settings.encoders_url)
    manifest = open_registry(settings).snapshot()

    def encoder(folder: Path | None) -> "Encode":
        neurons = _bidirectional(base, folder)
        return lambda texts: neurons.encode(texts)[0]

    encoders: dict[str | None, Encode] = {None: encoder(None)}
    return encoders | {digest: encoder(store.fetch(manifest.adapter(digest), manifest)) for digest in digests}


def _encoder(settings: Settings, base: "Base", options: EmbedOptions) -> "tuple[AdapterRef | None, Neurons]":
    from mongars.neurons.bidirectional import causal_encoder
    from mongars.neurons.neurons import Neurons
    from mongars.registry import find_adapter

    if options.attention == "causal":
        return None, Neurons(causal_encoder(base), base.tokenizer)
    if options.adapter == NO_ADAPTER:
        return None, _bidirectional(base, None)
    ref, folder = find_adapter(open_registry(settings), options.adapter, base_digest=base.digest)
    return ref, _bidirectional(base, folder)


def _bidirectional(base: "Base", adapter: Path | None) -> "Neurons":
    from mongars.lm.adapters import attach_adapter
    from mongars.neurons.bidirectional import bidirectional_encoder
    from mongars.neurons.neurons import Neurons

    module = bidirectional_encoder(base)
    return Neurons(attach_adapter(module, adapter) if adapter else module, base.tokenizer)


def _report_rate(progress: Progress, lines: int) -> "Callable[[Written], None]":
    started = time.monotonic()

    def report(written: "Written") -> None:
        rate = written.rows / max(time.monotonic() - started, 1e-9)
        progress.update(written.rows + written.bad_lines, lines, f"{rate:,.0f} texts/s")

    return report
