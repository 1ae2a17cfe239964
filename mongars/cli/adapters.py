"""`mongars adapters`: the adapter versions in storage, with or without a running server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mongars.cli.options import Json, Kind
from mongars.cli.output import emit, say, table
from mongars.records import as_json
from mongars.settings import load_settings
from mongars.workflows import adapters as versions
from mongars.workflows.import_adapter import import_adapter
from mongars.workflows.publish import TIMEOUT_S
from mongars.workflows.publish import publish as publish_adapter

if TYPE_CHECKING:
    from mongars.workflows.publish import Publication

app = typer.Typer(
    help="List, publish, import, promote, roll back, revoke and prune adapter versions.", no_args_is_help=True
)

Digest = Annotated[str, typer.Argument(help="Digest of the adapter, or at least its first 8 digits.")]
Name = Annotated[str, typer.Option(help="Name of the adapter: lower-case letters, digits and hyphens.")]


def _report(done: "Publication", *, json: bool, replicas: tuple[str, ...] | None = None) -> None:
    if json:
        served = {} if replicas is None else {"replicas": replicas}
        emit({"generation": done.generation, "changed": done.changed, "adapter": as_json(done.adapter)} | served)
        return
    name = f"{done.adapter.name}@{done.adapter.digest[:12]}"
    verb = "is now" if done.changed else "was already"
    say(f"{name} {verb} {done.adapter.state}; generation {done.generation}.")
    if replicas is not None:
        say(f"{len(replicas)} replicas have loaded it.")


@app.command("list")
def list_adapters(json: Json = False) -> None:
    """Show every adapter version and which one is current."""
    manifest = versions.list_adapters(load_settings())
    if json:
        emit(
            {
                "generation": manifest.generation,
                "current": dict(manifest.current),
                "adapters": [as_json(adapter) for adapter in manifest.adapters],
            }
        )
        return
    rows = [
        (
            adapter.name,
            adapter.digest[:12],
            adapter.kind,
            adapter.state,
            "yes" if adapter.digest in manifest.current.values() else "",
            adapter.created_at.isoformat(timespec="seconds"),
        )
        for adapter in manifest.adapters
    ]
    table(f"Generation {manifest.generation}", ("name", "digest", "kind", "state", "current", "created"), rows)


@app.command()
def publish(
    name: Name,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder with adapter_model.safetensors, its config and card.json.")
    ] = None,
    folder_option: Annotated[Path | None, typer.Option("--folder", hidden=True)] = None,
    kind: Kind = "encoder",
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            "--ray-address",
            metavar="ADDRESS",
            help="Publish through the server on this Ray (`auto` finds the local one) and wait until every "
            "replica has loaded the adapter. By default only storage is changed.",
        ),
    ] = None,
    timeout_s: Annotated[float, typer.Option(min=0, help="With --ray: how long to wait, in seconds.")] = TIMEOUT_S,
    json: Json = False,
) -> None:
    """Validate an adapter folder, store it and make it current. Repeating the command changes nothing."""
    source = folder or folder_option
    if source is None:
        raise typer.BadParameter("Give the folder of the adapter.", param_hint="FOLDER")
    done = publish_adapter(load_settings().resolved(), source, name, kind, ray=ray, timeout_s=timeout_s)
    _report(done.publication, json=json, replicas=done.replicas)


@app.command("import")
def import_lora(
    folder: Annotated[Path, typer.Argument(help="Folder with adapter_model.safetensors and adapter_config.json.")],
    name: Name,
    kind: Kind = "encoder",
    base: Annotated[str | None, typer.Option(help="The base of the adapter; by default the served base.")] = None,
    json: Json = False,
) -> None:
    """Import a LoRA adapter that peft saved elsewhere, as a candidate; `promote` serves it."""
    _report(import_adapter(load_settings(), folder, name, kind, base=base), json=json)


@app.command()
def promote(digest: Digest, json: Json = False) -> None:
    """Make an adapter version the current one."""
    _report(versions.promote(load_settings(), digest), json=json)


@app.command()
def rollback(kind: Kind = "encoder", json: Json = False) -> None:
    """Serve the version before the current one again, as a new generation."""
    _report(versions.roll_back(load_settings(), kind), json=json)


@app.command()
def revoke(digest: Digest, json: Json = False) -> None:
    """Withdraw a version for good: it is never served again."""
    _report(versions.revoke(load_settings(), digest), json=json)


@app.command()
def prune(
    keep: Annotated[
        int,
        typer.Option(min=0, help="How many of the newest versions, and of rollback targets, stay of each kind."),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
    json: Json = False,
) -> None:
    """Remove the files of older versions. Current and new versions stay."""
    pruned = versions.prune(load_settings(), keep, preview=not yes)
    if json:
        emit({"removed": yes, "adapters": [as_json(adapter) for adapter in pruned]})
        return
    rows = [(adapter.name, adapter.digest[:12], adapter.kind, adapter.state) for adapter in pruned]
    table("Removed" if yes else "Would be removed", ("name", "digest", "kind", "state"), rows)
    if pruned and not yes:
        say("Nothing was removed. To remove them, add --yes.")
