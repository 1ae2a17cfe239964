"""Every knob of an MNTP run.

Owns the validation of a run's configuration and its digest. Must not know where data or models are.
"""

import json
from collections.abc import Iterable
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mongars.digests import canonical_json_digest
from mongars.errors import SettingsError

Recipe = TypeVar("Recipe", bound=BaseModel)


class MNTPConfig(BaseModel):
    """A run of masked next-token prediction. Defaults are the recipe of LLM2Vec (arXiv 2404.05961, appendix).

    The number of workers and threads belongs to the recipe: it changes the order of floating-point sums, and
    with it the bytes of the adapter. `checkpoint_steps` changes nothing in it, so no dump and no digest has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    learning_rate: float = Field(5e-5, gt=0)
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of the gradient of a step.")
    mask_share: float = Field(0.2, gt=0, le=1, description="Share of ordinary tokens that are targets.")
    hide_share: float = Field(0.8, ge=0, le=1, description="Share of targets shown as the mask token.")
    random_share: float = Field(0.1, ge=0, le=1, description="Share of targets shown as a random token.")
    mask_token_id: int | None = Field(
        None, ge=0, description="The tokenizer's own mask token, or `_`, by default."
    )
    max_tokens: int = Field(512, ge=2, description="Longer conversations are cut.")
    batch_rows: int = Field(32, ge=1, description="Conversations in a step, over all workers.")
    micro_rows: int | None = Field(
        None, ge=1, description="Conversations in one forward pass of a worker; its whole share by default."
    )
    steps: int = Field(1000, ge=1)
    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1, description="Threads of a worker.")
    zero_stage: int = Field(1, ge=0, le=3, description="What DeepSpeed ZeRO shards (arXiv 1910.02054).")
    seed: int = Field(0, ge=0)
    checkpoint_steps: int = Field(
        100, ge=1, exclude=True, description="Steps that a killed run loses at most; outside the recipe."
    )

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        if self.hide_share + self.random_share > 1:
            raise ValueError("hide_share and random_share together are more than 1")
        if self.batch_rows % self.workers:
            raise ValueError(f"batch_rows {self.batch_rows} is no multiple of workers {self.workers}")
        if self.batch_rows % (self.workers * self.micro_batch):
            raise ValueError(f"a worker's {self.batch_rows // self.workers} rows are no multiple of micro_rows")
        return self

    @property
    def micro_batch(self) -> int:
        """Rows in one forward pass of a worker."""
        return self.micro_rows or self.batch_rows // self.workers

    @property
    def accumulation(self) -> int:
        """Forward passes of a worker in a step."""
        return self.batch_rows // (self.workers * self.micro_batch)

    def recipe_digest(self) -> str:
        """Return the sha256 of every knob that the adapter depends on, in hex."""
        return canonical_json_digest(self.model_dump(mode="json"))


def config_from(recipe: type[Recipe], knobs: Iterable[str]) -> Recipe:
    """Return the default recipe with knobs as the command line gives them: `steps=60`, `KNOB=JSON`.

    Raises SettingsError for a knob that is unknown, impossible or no JSON.
    """
    changes: dict[str, Any] = {}
    for knob in knobs:
        name, _, value = knob.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            raise SettingsError(f"{knob!r} is not KNOB=JSON.", remedy="For example: --set steps=60") from None
    try:
        return recipe(**changes)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise SettingsError(
            f"{name}: {first['msg']}.", remedy=f"The knobs are {', '.join(recipe.model_fields)}."
        ) from None
