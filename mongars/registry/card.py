"""`card.json`, schema 1: the provenance of an adapter.

The card is part of the adapter's digest, so it has only facts that the weights depend on, and equal runs write
equal bytes.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mongars.errors import AdapterRefusedError
from mongars.records import AdapterKind

CARD_FILE = "card.json"
SHA256 = r"^[0-9a-f]{64}$"


class CardDataset(BaseModel):
    """The dataset version that an adapter was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    version: str
    digest: str = Field(pattern=SHA256)


class AdapterCard(BaseModel):
    """The provenance of an adapter: base, dataset, all options of the recipe, seed and final metrics.

    `dataset` and `seed` are None for an adapter that was trained elsewhere. `run_id` is MLflow's, if the trainer
    names one. `resumed_from` is the digest of another run's checkpoint that the run continued, `init_from` that of
    the adapter that the weights were initialised from. `world_sizes` lists, for an elastic run, the first step
    (from 1) of each stretch and its number of workers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    schema_version: Literal[1] = Field(alias="schema")
    kind: AdapterKind
    objective: str
    base: str
    base_digest: str = Field(pattern=SHA256)
    dataset: CardDataset | None
    recipe: dict[str, Any]
    recipe_digest: str
    seed: int | None
    metrics: dict[str, float]
    run_id: str | None = None
    resumed_from: str | None = Field(None, pattern=SHA256)
    init_from: str | None = Field(None, pattern=SHA256)
    world_sizes: list[tuple[int, int]] | None = Field(None, alias="worlds")

    def as_json(self) -> dict[str, Any]:
        """Return the card's JSON object, without optional fields that are None."""
        optional = (name for name, field in type(self).model_fields.items() if not field.is_required())
        absent = {name for name in optional if getattr(self, name) is None}
        return self.model_dump(mode="json", by_alias=True, exclude=absent)

    @property
    def dataset_name(self) -> str | None:
        """The dataset as `name@version`."""
        return f"{self.dataset.name}@{self.dataset.version}" if self.dataset else None


def write_card(folder: Path, card: AdapterCard) -> None:
    """Write the card to `folder`; equal cards give equal bytes."""
    text = json.dumps(card.as_json(), indent=2, sort_keys=True)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> AdapterCard:
    """Return the card in `folder`. Raises AdapterRefusedError when it is missing or invalid."""
    try:
        data = (folder / CARD_FILE).read_bytes()
    except FileNotFoundError:
        raise AdapterRefusedError(f"{folder} has no {CARD_FILE}.") from None
    try:
        return AdapterCard.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise AdapterRefusedError(f"{folder / CARD_FILE}: {place or 'file'}: {first['msg']}.") from None
