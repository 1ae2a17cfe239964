"""`mongars embed`: a file of texts to a file of vectors, without a server."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mongars.cli.options import Json
from mongars.cli.output import emit, facts, stages
from mongars.records import Attention, as_json
from mongars.settings import load_settings
from mongars.workflows.embed import NO_ADAPTER, EmbedOptions
from mongars.workflows.embed import embed as embed_file


def embed(
    source: Annotated[Path, typer.Option("--input", help='JSONL or .jsonl.gz, one `{"id", "text"}` a line.')],
    output: Annotated[Path, typer.Option(help="Parquet file to write, with the columns id and vector.")],
    base: Annotated[
        str | None, typer.Option(help="Folder or hub id of the base; by default the served base.")
    ] = None,
    adapter: Annotated[
        str,
        typer.Option(
            metavar="DIGEST|none",
            help="Digest of an encoder adapter, or at least its first 8 digits; `none` uses the base alone.",
        ),
    ] = NO_ADAPTER,
    attention: Annotated[
        Attention, typer.Option(help="Attention of the base; adapters need `bidirectional`.")
    ] = "bidirectional",
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    json: Json = False,
) -> None:
    """Embed every text of a file, in the order of its lines: with the base, or with --adapter.

    The vectors are those that a server returns for the same base and adapter.
    """
    options = EmbedOptions(base, adapter, attention, force)
    with stages() as progress:
        done = embed_file(load_settings(), source, output, options, progress)
    summary = {
        "output": str(output),
        **as_json(done.written),
        "dimensions": done.dimensions,
        "attention": attention,
        "base": {"name": done.base_name, "digest": done.base_digest},
        "adapter": {"name": done.adapter.name, "digest": done.adapter.digest} if done.adapter else None,
    }
    emit(summary) if json else facts("Vectors", {key.replace("_", " "): _cell(summary[key]) for key in summary})
    raise typer.Exit(1 if done.written.bad_lines else 0)


def _cell(value: Any) -> object:
    """Return a base or an adapter as its name and first digits."""
    return f"{value['name']}@{value['digest'][:12]}" if isinstance(value, dict) else value
