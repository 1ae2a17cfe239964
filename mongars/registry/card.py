"""`card.json`: where an adapter comes from.

Owns the shape of the card: training writes it, the store refuses a folder without a complete one. Must not know
how an adapter is trained or stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mongars.digests import canonical_json
from mongars.errors import AdapterRefusedError
from mongars.records import as_json

CARD_FILE = "card.json"


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """The provenance of an adapter. Every key must be there; None says that there is none of it.

    `dataset` is `name@version`; `recipe` holds every knob of the run and `recipe_digest` its digest; `metrics`
    are finite numbers; `run_id` is MLflow's.
    """

    base_model: str
    base_digest: str
    dataset: str | None
    dataset_digest: str | None
    recipe: Mapping[str, Any]
    recipe_digest: str
    seed: int
    metrics: Mapping[str, float]
    run_id: str | None


class _File(BaseModel):
    # Handed on to the dataclass inside: unknown keys are refused there too.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    card: AdapterCard


def card_bytes(card: AdapterCard) -> bytes:
    """Return the bytes of `card.json`: canonical JSON, because they are part of the adapter's digest."""
    return canonical_json(as_json(card))


def read_card(folder: Path) -> AdapterCard:
    """Return the card in `folder`. Raises AdapterRefusedError that says what is missing or wrong."""
    try:
        data = (folder / CARD_FILE).read_bytes()
    except FileNotFoundError:
        raise AdapterRefusedError(f"{folder} has no {CARD_FILE}.") from None
    try:
        return _File.model_validate_json(b'{"card":' + data + b"}").card
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        raise AdapterRefusedError(f"{folder / CARD_FILE}: {place or 'file'}: {first['msg']}.") from None
