"""`mongars embed`: a file of texts to a file of vectors, on this machine and without a server.

Owns the command only.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mongars.cli.adapters import own_registry
from mongars.cli.data import report_bad_line
from mongars.cli.output import JSON_OPTION, Stages, emit, facts, stages
from mongars.errors import InputError
from mongars.formats.jsonl import check_readable, numbered_lines, read_texts
from mongars.records import AdapterRef, Attention, as_json
from mongars.settings import load_settings

if TYPE_CHECKING:
    from mongars.lm.base import Base
    from mongars.neurons.neurons import Neurons
    from mongars.neurons.vector_file import Written

NO_ADAPTER = "none"


def embed(
    source: Annotated[Path, typer.Option("--input", help='JSONL or .jsonl.gz, one `{"id", "text"}` a line.')],
    output: Annotated[Path, typer.Option(help="Parquet file to write, with the columns id and vector.")],
    base: Annotated[
        str | None, typer.Option(help="Folder or hub id of the base; by default the one that is served.")
    ] = None,
    adapter: Annotated[
        str,
        typer.Option(
            metavar="DIGEST|none",
            help="An encoder adapter, by its digest or the first 8 digits or more. "
            "`none` is the base alone, whatever is served.",
        ),
    ] = NO_ADAPTER,
    attention: Annotated[
        Attention, typer.Option(help="How the base reads; adapters need `bidirectional`.")
    ] = "bidirectional",
    force: Annotated[bool, typer.Option("--force", help="Replace the output when it is there.")] = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Embed every text of a file, in the order of its lines; with the served adapter, as the server does."""
    _check(source, output, adapter, attention, force=force)
    from mongars.lm.base import load_base
    from mongars.lm.base_files import base_name
    from mongars.neurons.vector_file import Origin, write_vectors

    settings = load_settings()
    wanted = base or settings.base_model
    with stages() as show:
        show.stage("Loading the base")
        loaded = load_base(wanted, packed=True, cpu_optimizations=settings.cpu_optimizations)
        ref, neurons = _encoder(loaded, adapter, attention)
        show.stage("Embedding")
        lines = sum(1 for _ in numbered_lines(source))  # a pass over the file is cheap next to embedding it
        written = write_vectors(
            neurons,
            read_texts(source),
            output,
            Origin(base_name(wanted), loaded.digest, ref.digest if ref else None, attention),
            on_bad=report_bad_line,
            on_chunk=_pace(show, lines),
        )
    summary = {
        "output": str(output),
        **as_json(written),
        "dimensions": neurons.dimensions,
        "attention": attention,
        "base": {"name": base_name(wanted), "digest": loaded.digest},
        "adapter": {"name": ref.name, "digest": ref.digest} if ref else None,
    }
    emit(summary) if json else facts("Vectors", {key.replace("_", " "): _cell(summary[key]) for key in summary})
    raise typer.Exit(1 if written.bad_lines else 0)


def _check(source: Path, output: Path, adapter: str, attention: Attention, *, force: bool) -> None:
    """Raise InputError for what cannot be right, before anything heavy is loaded."""
    check_readable(source)
    if adapter != NO_ADAPTER and attention == "causal":
        raise InputError(
            "Adapters were trained with bidirectional attention: read causally, their vectors mean nothing.",
            remedy="Leave out --adapter, or --attention.",
            param="attention",
        )
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the input.", remedy="Choose another --output.", param="output")
    if output.is_dir():
        raise InputError(f"{output} is a folder.", remedy="Give the path of a file with --output.", param="output")
    if output.exists() and not force:
        raise InputError(
            f"{output} is there already.",
            remedy="Choose another --output, or replace it with --force.",
            param="output",
        )


def _encoder(base: "Base", adapter: str, attention: Attention) -> tuple[AdapterRef | None, "Neurons"]:
    """Return the adapter that was asked for and what embeds with it."""
    from mongars.lm.adapters import attach_adapter
    from mongars.neurons.bidirectional import bidirectional_encoder, causal_encoder
    from mongars.neurons.neurons import Neurons
    from mongars.registry.lookup import find_adapter

    if attention == "causal":
        return None, Neurons(causal_encoder(base), base.tokenizer)
    if adapter == NO_ADAPTER:
        return None, Neurons(bidirectional_encoder(base), base.tokenizer)
    ref, folder = find_adapter(own_registry(), adapter, base_digest=base.digest)
    return ref, Neurons(attach_adapter(bidirectional_encoder(base), folder), base.tokenizer)


def _pace(show: Stages, lines: int) -> "Callable[[Written], None]":
    """Return what shows how far it is, and how fast it went so far."""
    started = time.monotonic()

    def shown(written: "Written") -> None:
        rate = written.rows / max(time.monotonic() - started, 1e-9)
        show.update(written.rows + written.bad_lines, lines, f"{rate:,.0f} texts/s")

    return shown


def _cell(value: Any) -> object:
    """Return what a table shows: a base or an adapter by its name and first digits."""
    return f"{value['name']}@{value['digest'][:12]}" if isinstance(value, dict) else value
