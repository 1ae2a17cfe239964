"""`mongars adapters`: the versions in `models/encoders`, read and changed in storage.

Owns the commands only. Works with and without a running server: storage is the truth, and the named actor
of a running one notices the change and tells every replica.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mongars.cli.output import JSON_OPTION, emit, say, table
from mongars.records import AdapterKind, as_json
from mongars.settings import load_settings

if TYPE_CHECKING:
    from mongars.registry.registry import AdapterRegistry, Publication

app = typer.Typer(
    help="List, publish, import, promote, roll back, revoke and prune adapter versions.", no_args_is_help=True
)

Json = Annotated[bool, JSON_OPTION]
Digest = Annotated[str, typer.Argument(help="Digest of the adapter, or its first 12 digits or more.")]


def own_registry() -> "AdapterRegistry":
    """Return the registry that the settings name, read and changed in storage."""
    from mongars.registry.registry import AdapterRegistry

    settings = load_settings()
    return AdapterRegistry(settings.encoders_dir, settings.encoders_url)


def _kind(text: str) -> AdapterKind:
    kinds: dict[str, AdapterKind] = {"encoder": "encoder", "chat": "chat"}
    if text not in kinds:
        raise typer.BadParameter(f"{text!r} is neither `encoder` nor `chat`.", param_hint="--kind")
    return kinds[text]


def _report(done: "Publication", as_json_document: bool) -> None:
    if as_json_document:
        emit({"generation": done.generation, "changed": done.changed, "adapter": as_json(done.adapter)})
    else:
        name = f"{done.adapter.name}@{done.adapter.digest[:12]}"
        verb = "is now" if done.changed else "was already"
        say(f"{name} {verb} {done.adapter.state}; generation {done.generation}.")


@app.command("list")
def list_adapters(json: Json = False) -> None:
    """Show every adapter version and which one is current."""
    manifest = own_registry().snapshot()
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
    folder: Annotated[
        Path, typer.Argument(help="Folder with adapter_model.safetensors, its config and card.json.")
    ],
    name: Annotated[str, typer.Option(help="Name of the adapter: small letters, digits and dashes.")],
    kind: Annotated[str, typer.Option(help="`encoder` or `chat`.")] = "encoder",
    json: Json = False,
) -> None:
    """Validate an adapter folder, store it and make it current; repeating it changes nothing."""
    from mongars.lm.base_files import base_folder
    from mongars.registry import BaseSpec, PublishRequest

    base = BaseSpec.of(base_folder(load_settings().base_model))
    _report(own_registry().publish(PublishRequest(folder, name, base, _kind(kind))), json)


@app.command("import")
def import_lora(
    folder: Annotated[Path, typer.Argument(help="Folder with adapter_model.safetensors and adapter_config.json.")],
    name: Annotated[str, typer.Option(help="Name of the adapter: small letters, digits and dashes.")],
    kind: Annotated[str, typer.Option(help="`encoder` or `chat`.")] = "encoder",
    base: Annotated[
        str | None, typer.Option(help="The base it is for; by default the one that is served.")
    ] = None,
    json: Json = False,
) -> None:
    """Bring in a LoRA that others made with peft, as a candidate; `promote` serves it."""
    from mongars.lm.base_files import base_folder, base_name
    from mongars.registry import BaseSpec, PublishRequest
    from mongars.registry.importing import import_adapter

    wanted = base or load_settings().base_model
    spec = BaseSpec.of(base_folder(wanted))
    with tempfile.TemporaryDirectory() as scratch:
        ours = Path(scratch) / "adapter"
        import_adapter(folder, ours, _kind(kind), spec, base_name=base_name(wanted))
        _report(own_registry().register(PublishRequest(ours, name, spec, _kind(kind))), json)


@app.command()
def promote(digest: Digest, json: Json = False) -> None:
    """Make a known adapter version the current one."""
    _report(own_registry().promote(digest), json)


@app.command()
def rollback(
    kind: Annotated[str, typer.Option(help="`encoder` or `chat`.")] = "encoder", json: Json = False
) -> None:
    """Go back to the version before the current one, as a new generation."""
    _report(own_registry().rollback(_kind(kind)), json)


@app.command()
def revoke(digest: Digest, json: Json = False) -> None:
    """Take a version out of service for good; it is never served again."""
    _report(own_registry().revoke(digest), json)


@app.command()
def prune(
    keep: Annotated[
        int, typer.Option(min=0, help="How many of the newest, and of rollbacks, to keep of each kind.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only shown.")] = False,
    json: Json = False,
) -> None:
    """Remove the files of older versions; what is current and what is new stay."""
    registry = own_registry()
    adapters = registry.prune(keep) if yes else registry.prunable(keep)
    if json:
        emit({"removed": yes, "adapters": [as_json(adapter) for adapter in adapters]})
        return
    rows = [(adapter.name, adapter.digest[:12], adapter.kind, adapter.state) for adapter in adapters]
    table("Removed" if yes else "Would be removed", ("name", "digest", "kind", "state"), rows)
    if adapters and not yes:
        say("Nothing was removed. To remove them, add --yes.")
