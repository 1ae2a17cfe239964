"""The bytes of `adapter_manifest.json`, schema 1.

Owns parsing and serialising, and refuses what it does not know or what contradicts itself: a manifest that is half
understood would serve the wrong adapter. Must not know who changes the file or when.
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
    # pydantic hands this configuration on to the plain dataclasses inside, so an unknown key in an adapter
    # or a history entry is refused too; a test holds it.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    schema_: Literal[1] = Field(alias="schema")
    generation: int = Field(ge=0)
    adapters: tuple[AdapterRef, ...]
    current: dict[AdapterKind, str | None]
    history: tuple[HistoryEntry, ...]


def serialise(manifest: AdapterManifest) -> bytes:
    """Return the file of a manifest: UTF-8 JSON, indented, so that a person can read and compare it."""
    plain = {"schema": SCHEMA, **as_json(manifest)}
    return (json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def parse(data: bytes, source: str) -> AdapterManifest:
    """Return the manifest in `data`.

    Raises InputError naming `source` for anything else: no JSON, another schema, an unknown or missing key,
    a value of another type, or parts that contradict each other.
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
    """Return what is inconsistent in a manifest, or None."""
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
        "the history does not tell every generation once, in order": (
            [entry.generation for entry in manifest.history] != list(range(1, manifest.generation + 1))
        ),
        "the history names an adapter that is not listed": (
            not {entry.digest for entry in manifest.history} <= set(digests)
        ),
        "a time has no offset from UTC": any(at.tzinfo is None for at in times),
    }
    return next((problem for problem, found in problems.items() if found), None)
