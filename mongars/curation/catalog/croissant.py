"""What a dataset version says of itself to machines: `croissant.json`, Croissant 1.1.

Owns that form (http://mlcommons.org/croissant/1.1). Must not know the folders around it. mlcroissant 1.1.1 reads
what it makes; it is no dependency, because it would write the same JSON, but as 1.0, and bring a graph store.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mongars.curation.catalog.manifest import Manifest

PARQUET = "application/x-parquet"  # the name that mlcroissant knows it by
RECORDS = "conversations"
_PARTS = "parts"
_TEXTS = {
    "id": "Of the conversation, as its source named it.",
    "subject": "HMAC id of the person who spoke; the same person has the same one.",
    "split": "train or test; no subject is in both.",
    "source": "Where the conversation was had.",
    "language": "ISO 639-1 code, und where it could not be told.",
}
_LISTS = {
    "messages": (
        "The turns, in order.",
        {
            "role": ("sc:Text", "user, assistant or system."),
            "content": ("sc:Text", "What was said, personal data replaced."),
        },
    ),
    "opinions": (
        "What the person called a good answer, and what a bad one.",
        {
            "query": ("sc:Text", "What was asked, personal data replaced."),
            "text": ("sc:Text", "The answer, personal data replaced."),
            "good": ("sc:Boolean", "Whether it was called good."),
        },
    ),
}
# The context as the specification gives it, whole, used or not: readers tell of one that differs.
_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
} | {term: f"cr:{term}" for term in _TERMS.split()}


@dataclass(frozen=True, slots=True)
class PartFile:
    """A Parquet part as it lies on disk: `sha256` in hex, of its bytes."""

    name: str
    bytes: int
    sha256: str


def croissant(manifest: Manifest, parts: Sequence[PartFile]) -> str:
    """Return the Croissant description of a version as JSON; what was set aside is no part of it."""
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": manifest.name,
        "description": f"{manifest.rows} conversations, personal data replaced, state {manifest.state}, content "
        f"digest {manifest.digest}, recipe {manifest.recipe_hash}. See README.md beside it.",
        "version": f"{manifest.version.removeprefix('v')}.0.0",
        "datePublished": f"{manifest.created_at:%Y-%m-%d}",
        "license": "Not licensed to others: conversations of the users of one installation.",
        "citeAs": f"{manifest.name} {manifest.version}, digest {manifest.digest}",
        "distribution": [*map(_file, parts), _file_set()],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": RECORDS,
                "name": RECORDS,
                "key": {"@id": f"{RECORDS}/id"},
                "field": [*(_text(name, told) for name, told in _TEXTS.items()), *map(_list, _LISTS)],
            }
        ],
    }
    return json.dumps(described, indent=2) + "\n"


def _file(part: PartFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": part.name,
        "name": part.name,
        "contentUrl": part.name,
        "contentSize": f"{part.bytes} B",
        "encodingFormat": PARQUET,
        "sha256": part.sha256,
    }


def _file_set() -> dict[str, Any]:
    """All parts together: a record set has one source."""
    return {
        "@type": "cr:FileSet",
        "@id": _PARTS,
        "name": _PARTS,
        "includes": "part-*.parquet",
        "encodingFormat": PARQUET,
    }


def _text(name: str, told: str) -> dict[str, Any]:
    return _field(name, told) | {"dataType": "sc:Text", "source": _column(name)}


def _list(name: str) -> dict[str, Any]:
    told, columns = _LISTS[name]
    parts = [
        _field(f"{name}/{part}", meaning)
        | {"dataType": kind, "source": _column(name) | {"transform": {"jsonPath": f"$[*].{part}"}}}
        for part, (kind, meaning) in columns.items()
    ]
    return _field(name, told) | {"repeated": True, "subField": parts}


def _field(name: str, told: str) -> dict[str, Any]:
    field = f"{RECORDS}/{name}"
    return {"@type": "cr:Field", "@id": field, "name": name.rpartition("/")[2], "description": told}


def _column(name: str) -> dict[str, Any]:
    return {"fileSet": {"@id": _PARTS}, "extract": {"column": name}}
