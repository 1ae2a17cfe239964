"""Parses and serialises `adapter_manifest.json`, schema 1.

Unknown keys, unknown values and contradictions are errors: a misread manifest could serve the wrong adapter.
"""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mongars.errors import InputError
from mongars.records import ADAPTER_KINDS, AdapterKind, AdapterRef, as_json
from mongars.registry.manifest import AdapterManifest, HistoryEntry

SCHEMA = 1
_REMEDY = "Restore the file from a backup, or read it with the version of mongars that wrote it."


class _File(BaseModel):
    # pydantic applies this configuration to the nested dataclasses too, so an unknown key in an adapter or a
    # history entry is an error.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    schema_: Literal[1] = Field(alias="schema")
    generation: int = Field(ge=0)
    adapters: tuple[AdapterRef, ...]
    current: dict[AdapterKind, str | None]
    history: tuple[HistoryEntry, ...]


def serialise(manifest: AdapterManifest) -> bytes:
    """Return a manifest as UTF-8 JSON, indented for people who read and compare it."""
    plain = {"schema": SCHEMA, **as_json(manifest)}
    return (json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def parse(data: bytes, source: str) -> AdapterManifest:
    """Return the manifest in `data`.

    Raises InputError that names `source` for anything but JSON of this schema, and for contradicting parts.
    """
    try:
        file = _File.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{source}: {place or 'file'}: {first['msg']}.", remedy=_REMEDY) from None
    manifest = AdapterManifest(file.generation, file.adapters, file.current, file.history)
    problem = contradiction(manifest)
    if problem:
        raise InputError(f"{source}: {problem}.", remedy=_REMEDY)
    return manifest


def contradiction(manifest: AdapterManifest) -> str | None:
    """Return the first inconsistency in a manifest, or None."""
    digests = [ref.digest for ref in manifest.adapters]
    times = [entry.at for entry in manifest.history] + [ref.created_at for ref in manifest.adapters]
    active = {
        kind: [ref.digest for ref in manifest.adapters if ref.kind == kind and ref.state == "active"]
        for kind in ADAPTER_KINDS
    }
    current = {kind: [] if digest is None else [digest] for kind, digest in manifest.current.items()}
    problems = {
        "a digest is listed twice": len(set(digests)) != len(digests),
        "the active adapters are not the current ones": active != current,
        "the history does not list every generation once, in order": (
            [entry.generation for entry in manifest.history] != list(range(1, manifest.generation + 1))
        ),
        "the history names an adapter that is not listed": (
            not {entry.digest for entry in manifest.history} <= set(digests)
        ),
        "a time has no offset from UTC": any(at.tzinfo is None for at in times),
    }
    return next((problem for problem, found in problems.items() if found), None)
