"""`card.json`, schema 1: where an adapter comes from.

Owns the shape that the store demands; training writes it. The card is part of the adapter's digest, so it holds
only what the weights depend on: equal runs make equal cards. Must not know how an adapter is trained or stored.
"""

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
    """The provenance of an adapter: base, dataset, every knob of the recipe, seed and final metrics.

    `dataset` and `seed` are None for an adapter that was trained elsewhere. `run_id` is MLflow's, where the
    trainer names one; `resumed_from` is the digest of the checkpoint of another run, where that one had begun
    it; `init_from` that of the adapter whose weights the training started from; `worlds`, of an elastic run,
    since which step (from 1) how many workers trained it.
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
    worlds: list[tuple[int, int]] | None = None

    @property
    def dataset_name(self) -> str | None:
        """The dataset as `name@version`."""
        return f"{self.dataset.name}@{self.dataset.version}" if self.dataset else None


def read_card(folder: Path) -> AdapterCard:
    """Return the card in `folder`. Raises AdapterRefusedError that says what is missing or wrong."""
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
