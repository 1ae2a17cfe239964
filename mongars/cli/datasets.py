"""`mongars datasets`: dataset versions shown, checked, compared, pruned, and a person erased from them.

Owns the commands only.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from mongars.cli.output import JSON_OPTION, emit, facts, say, table
from mongars.records import as_json, now
from mongars.settings import Settings, load_settings

if TYPE_CHECKING:
    from mongars.curation.catalog.catalog import DatasetCatalog
    from mongars.workflows.erase_user import UserErasure

app = typer.Typer(
    help="Show, check, compare and prune dataset versions, and erase a person.", no_args_is_help=True
)

Json = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="Name of the dataset.")]
Version = Annotated[str, typer.Option(help="A version such as `v2`, or `latest`.")]


def _catalog(settings: Settings) -> "DatasetCatalog":
    from mongars.curation.catalog.catalog import DatasetCatalog

    return DatasetCatalog(settings.datasets_dir)


@app.command("list")
def list_datasets(json: Json = False) -> None:
    """Show every dataset version."""
    found = _catalog(load_settings()).list()
    if json:
        emit([as_json(ref) for ref in found])
        return
    rows = [(ref.name, ref.version, ref.state, ref.rows, ref.digest[:12]) for ref in found]
    table("Datasets", ("name", "version", "state", "rows", "digest"), rows)


@app.command()
def show(name: Name, version: Version = "latest") -> None:
    """Print the manifest of one version as JSON."""
    import json as jsonlib

    catalog = _catalog(load_settings())
    emit(jsonlib.loads(catalog.manifest_path(catalog.get(name, version)).read_text()))


@app.command()
def verify(name: Name, version: Version = "latest") -> None:
    """Recompute the digest of one version from its rows."""
    catalog = _catalog(load_settings())
    ref = catalog.get(name, version)
    catalog.verify(ref)
    say(f"{ref.name} {ref.version}: {ref.rows} rows, digest {ref.digest[:12]} is right.")


@app.command()
def diff(
    name: Name,
    one: Annotated[str, typer.Argument(help="A version such as `v1`.")],
    other: Annotated[str, typer.Argument(help="The version to compare it with.")] = "latest",
    json: Json = False,
) -> None:
    """Tell which rows and which knobs of the recipe differ between two versions."""
    from mongars.curation.catalog.diff import diff as difference

    catalog = _catalog(load_settings())
    found = difference(catalog, catalog.get(name, one), catalog.get(name, other))
    if json:
        emit(as_json(found))
        return
    rows: dict[str, object] = {
        "added": len(found.added),
        "removed": len(found.removed),
        "changed": len(found.changed),
        "unchanged": found.unchanged,
    }
    knobs = {f"recipe: {knob}": f"{before} -> {after}" for knob, (before, after) in found.recipe.items()}
    facts(f"{name} {found.one.version} -> {found.other.version}", rows | knobs)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest versions of each dataset stay.")],
    older_than: Annotated[int, typer.Option(min=0, metavar="DAYS", help="Only what is older.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, it is only shown.")] = False,
    json: Json = False,
) -> None:
    """Remove the rows of old versions, for good; manifests stay and tell what an adapter learned from."""
    from mongars.curation.catalog import retention

    choose = retention.prune if yes else retention.prunable
    found = choose(_catalog(load_settings()), keep=keep, now=now(), older_than_days=older_than)
    if json:
        emit({"removed": yes, "versions": [as_json(ref) for ref in found]})
        return
    rows = [(ref.name, ref.version, ref.state, ref.rows) for ref in found]
    table("Removed" if yes else "Would be removed", ("name", "version", "state", "rows"), rows)
    if found and not yes:
        say("Nothing was removed. To remove it, add --yes.")


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="The user whose rows go, as their conversations name them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, it is only shown.")] = False,
    json: Json = False,
) -> None:
    """Remove a person's rows from every version, for good; adapters that learned from them are listed."""
    from mongars.workflows.erase_user import erase_user

    found = erase_user(load_settings(), user, preview=not yes)
    emit(as_json(found)) if json else _show_erasure(found)


def _show_erasure(found: "UserErasure") -> None:
    erasure = found.datasets
    rows = [(ref.name, ref.version, ref.state, ref.rows) for ref in erasure.versions]
    table(
        f"Versions that {'hold' if erasure.preview else 'held'} the person",
        ("name", "version", "state", "rows"),
        rows,
    )
    if erasure.successors:
        columns = ("name", "after", "version", "rows removed", "duplicates taken in", "rows left")
        followers = [
            (
                one.of.name,
                one.of.version,
                one.dataset and one.dataset.version,
                one.removed,
                one.readmitted,
                one.rows,
            )
            for one in erasure.successors
        ]
        table("What follows them", columns, followers)
    if erasure.dependents:
        table(
            "Versions that left rows out for rows of these",
            ("name", "version", "state", "rows"),
            [(ref.name, ref.version, ref.state, ref.rows) for ref in erasure.dependents],
        )
        say("What was left out for the person's rows comes in when their sources are curated again.")
    if found.adapters:
        adapters = [(ref.name, ref.digest[:12], ref.state, ref.dataset) for ref in found.adapters]
        table("Adapters that learned from them", ("name", "digest", "state", "dataset"), adapters)
        say("To take one out of service: mongars adapters revoke DIGEST")
    if found.runs:
        say(f"To delete what unfinished runs learned from them: mongars runs delete {' '.join(found.runs)}")
    if erasure.preview and erasure.versions:
        say("Nothing was removed. To remove it, add --yes.")
