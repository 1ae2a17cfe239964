"""`mongars datasets`: show, verify, compare and prune dataset versions, and erase a user from them."""

from typing import TYPE_CHECKING, Annotated

import typer

from mongars.cli.options import Json
from mongars.cli.output import emit, facts, say, table
from mongars.records import DatasetRef, as_json
from mongars.settings import load_settings
from mongars.workflows import datasets as versions

if TYPE_CHECKING:
    from mongars.workflows.erase_user import UserErasure

app = typer.Typer(help="Show, verify, compare and prune dataset versions, and erase a user.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the dataset.")]
Version = Annotated[str, typer.Option(help="A version such as `v2`, or `latest`.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove the rows; without it they are only listed.")]
COLUMNS = ("name", "version", "state", "rows")


@app.command("list")
def list_datasets(json: Json = False) -> None:
    """Show every dataset version."""
    found = versions.list_datasets(load_settings())
    if json:
        emit([as_json(ref) for ref in found])
    else:
        table("Datasets", (*COLUMNS, "digest"), [(*_cells(ref), ref.digest[:12]) for ref in found])


@app.command()
def show(name: Name, version: Version = "latest") -> None:
    """Print the manifest of a version as JSON."""
    emit(versions.read_manifest(load_settings(), name, version))


@app.command()
def verify(name: Name, version: Version = "latest") -> None:
    """Recompute the digest of a version from its rows."""
    ref = versions.verify(load_settings(), name, version)
    say(f"{ref.name} {ref.version}: {ref.rows} rows match the digest {ref.digest[:12]}.")


@app.command()
def diff(
    name: Name,
    one: Annotated[str, typer.Argument(help="A version such as `v1`.")],
    other: Annotated[str, typer.Argument(help="The version to compare it with.")] = "latest",
    json: Json = False,
) -> None:
    """Show which rows and which options of the recipe differ between two versions."""
    found = versions.diff(load_settings(), name, one, other)
    if json:
        emit(as_json(found))
        return
    rows: dict[str, object] = {
        "added": len(found.added),
        "removed": len(found.removed),
        "changed": len(found.changed),
        "unchanged": found.unchanged,
    }
    recipe = {f"recipe: {option}": f"{before} -> {after}" for option, (before, after) in found.recipe.items()}
    facts(f"{name} {found.one.version} -> {found.other.version}", rows | recipe)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest versions stay of each dataset.")],
    older_than: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="Prune only versions older than this.")
    ] = 0,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove the rows of old versions for good. Manifests stay: they record what an adapter learned from."""
    found = versions.prune(load_settings(), keep, older_than_days=older_than, preview=not yes)
    if json:
        emit({"removed": yes, "versions": [as_json(ref) for ref in found]})
        return
    table("Removed" if yes else "Would be removed", COLUMNS, [_cells(ref) for ref in found])
    if found and not yes:
        say("Nothing was removed. To remove them, add --yes.")


@app.command()
def erase(
    user: Annotated[str, typer.Argument(help="The user, as the conversations name them.")],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove a user's rows from every version for good, and list the adapters that learned from them."""
    from mongars.workflows.erase_user import erase_user

    found = erase_user(load_settings(), user, preview=not yes)
    emit(as_json(found)) if json else _show_erasure(found)


def _cells(ref: DatasetRef) -> tuple[object, ...]:
    return ref.name, ref.version, ref.state, ref.rows


def _show_erasure(found: "UserErasure") -> None:
    erasure = found.datasets
    title = "Versions with rows of the user" if erasure.preview else "Versions that had rows of the user"
    table(title, COLUMNS, [_cells(ref) for ref in erasure.versions])
    if erasure.successors:
        successors = [
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
        columns = ("name", "replaces", "version", "rows removed", "duplicates readmitted", "rows left")
        table("Their successors", columns, successors)
    if erasure.dependents:
        rows = [_cells(ref) for ref in erasure.dependents]
        table("Versions that left rows out because these versions have them", COLUMNS, rows)
        say("Curate their sources again to readmit what was left out because of the user's rows.")
    if found.adapters:
        adapters = [(ref.name, ref.digest[:12], ref.state, ref.dataset) for ref in found.adapters]
        table("Adapters that learned from them", ("name", "digest", "state", "dataset"), adapters)
        say("To withdraw one: mongars adapters revoke DIGEST")
    if found.runs:
        say(f"Unfinished runs learned from them. To delete these: mongars runs delete {' '.join(found.runs)}")
    if erasure.preview and erasure.versions:
        say("Nothing was removed. To remove the rows, add --yes.")
