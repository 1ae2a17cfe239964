"""The machine-readable description of a dataset version: `croissant.json`, Croissant 1.1.

See http://mlcommons.org/croissant/1.1. mlcroissant reads this JSON; we do not depend on it because it writes
Croissant 1.0 and needs a graph store.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mongars.curation.catalog.manifest import Manifest

PARQUET = "application/x-parquet"  # as mlcroissant calls it
RECORDS = "conversations"
_PARTS = "parts"
_TEXTS = {
    "id": "The id of the conversation in its source.",
    "subject": "HMAC id of the user, the same in all of the user's conversations.",
    "split": "train or test; no subject is in both.",
    "source": "Where the conversation took place.",
    "language": "ISO 639-1 code, und if undetermined.",
}
_LISTS = {
    "messages": (
        "The turns, in order.",
        {
            "role": ("sc:Text", "user, assistant or system."),
            "content": ("sc:Text", "The text, personal data replaced."),
        },
    ),
    "opinions": (
        "Answers that the user rated good or bad.",
        {
            "query": ("sc:Text", "The question, personal data replaced."),
            "text": ("sc:Text", "The answer, personal data replaced."),
            "good": ("sc:Boolean", "Whether the user rated it good."),
        },
    ),
}
# The complete context of the specification, because readers warn about any other.
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
    """A Parquet file of a version; `sha256` is in hex."""

    name: str
    bytes: int
    sha256: str


def croissant(manifest: Manifest, parts: Sequence[PartFile]) -> str:
    """Return the Croissant description of a version as JSON; it leaves out the duplicates set aside."""
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": manifest.name,
        "description": f"{manifest.rows} conversations, personal data replaced, state {manifest.state}, content "
        f"digest {manifest.digest}, recipe {manifest.recipe_hash}. See README.md.",
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
                "field": [*(_text(name, meaning) for name, meaning in _TEXTS.items()), *map(_list, _LISTS)],
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
    """Return all parts as one set, because a record set has one source."""
    return {
        "@type": "cr:FileSet",
        "@id": _PARTS,
        "name": _PARTS,
        "includes": "part-*.parquet",
        "encodingFormat": PARQUET,
    }


def _text(name: str, meaning: str) -> dict[str, Any]:
    return _field(name, meaning) | {"dataType": "sc:Text", "source": _column(name)}


def _list(name: str) -> dict[str, Any]:
    meaning, columns = _LISTS[name]
    parts = [
        _field(f"{name}/{part}", text)
        | {"dataType": kind, "source": _column(name) | {"transform": {"jsonPath": f"$[*].{part}"}}}
        for part, (kind, text) in columns.items()
    ]
    return _field(name, meaning) | {"repeated": True, "subField": parts}


def _field(name: str, meaning: str) -> dict[str, Any]:
    field = f"{RECORDS}/{name}"
    return {"@type": "cr:Field", "@id": field, "name": name.rpartition("/")[2], "description": meaning}


def _column(name: str) -> dict[str, Any]:
    return {"fileSet": {"@id": _PARTS}, "extract": {"column": name}}
