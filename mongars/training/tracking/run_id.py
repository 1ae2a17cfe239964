"""MLflow's id of a run, in a file beside the run's folder.

Owns that file. It lies beside the folder, whose digest must not depend on it.
"""

import json
from pathlib import Path

from mongars.storage.atomic import write_atomically
from mongars.storage.digests import canonical_json


def told_run_id(place: Path) -> str | None:
    """Return MLflow's id of the run in a folder; None as long as no server has given one."""
    sidecar = _sidecar(place)
    return str(json.loads(sidecar.read_text(encoding="utf-8"))["run_id"]) if sidecar.exists() else None


def remember_run_id(place: Path, run_id: str) -> None:
    """Keep the id that a server gave. Raises OSError."""
    write_atomically(_sidecar(place), canonical_json({"run_id": run_id}))


def _sidecar(place: Path) -> Path:
    return place.with_name(f"{place.name}.run.json")
