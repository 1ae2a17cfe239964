"""Every knob of a training run, of either stage.

Owns the validation of a run's configuration and its digest. Must not know where data or models are.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mongars.errors import SettingsError
from mongars.storage.digests import canonical_json_digest

SHARED_KNOBS = (
    *("lora_rank", "lora_alpha", "target_modules", "packing"),
    *("workers", "min_workers", "threads", "zero_stage", "precision", "recompute", "seed"),
)
"""Stage 2 takes them from stage 1: the adapter must fit, base and machine are the same."""
Precision = Literal["auto", "fp32", "bf16"]
Recipe = TypeVar("Recipe", bound=BaseModel)


class AdapterRecipe(BaseModel, ABC):
    """What the stages have in common: how a LoRA adapter is trained, whatever its objective.

    The number of workers and threads belongs to the recipe: it changes the order of floating-point sums, and
    with it the bytes of the adapter. Of an elastic run, which has `min_workers`, the range does, and not how many
    there are at a moment. `checkpoint_steps` changes nothing in the adapter, so no dump and no digest has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: ClassVar[str]
    accuracy_name: ClassVar[str]

    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), min_length=1
    )
    learning_rate: float = Field(5e-5, gt=0)
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of the gradient of a step.")
    max_tokens: int = Field(512, ge=2, description="Longer conversations or texts are cut.")
    packing: bool = Field(
        True, description="Rows lie side by side without padding; refused where the architecture leaks or differs."
    )
    steps: int = Field(1000, ge=1)
    workers: int = Field(2, ge=1, description="Workers; of an elastic run, the most.")
    min_workers: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda value: value is None,  # a run of a fixed number has the digest that it always had
        description="Makes the run elastic: it goes on with as many workers, from this to `workers`, as there is "
        "room for.",
    )
    threads: int = Field(1, ge=1, description="Threads of a worker.")
    zero_stage: int = Field(1, ge=0, le=3, description="What DeepSpeed ZeRO shards (arXiv 1910.02054).")
    precision: Precision = Field(
        "auto",
        exclude_if=lambda value: value == "auto",  # on a CPU it is fp32, as it always was
        description="What products are computed in; auto is bf16 on a GPU. Weights and sums are fp32.",
    )
    recompute: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Activations are computed again for the gradient (arXiv 1604.06174): less memory, more time.",
    )
    seed: int = Field(0, ge=0)
    checkpoint_steps: int = Field(
        100, ge=1, exclude=True, description="Steps that a killed run loses at most; outside the recipe."
    )

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> Self:
        if self.min_workers is not None and self.min_workers >= self.workers:
            raise ValueError(f"min_workers {self.min_workers} is not less than workers {self.workers}")
        for workers in range(self.min_workers or self.workers, self.workers + 1):
            passes = self.with_world_size(workers).accumulation
            if self.batch < workers * passes:
                raise ValueError(f"a batch of {self.batch} is too small for {workers} workers of {passes} passes")
        return self

    @property
    @abstractmethod
    def batch(self) -> int:
        """Rows or pairs in a step, over all workers."""

    @property
    def micro_batch(self) -> int:
        """Rows or pairs in one forward pass of a worker, at most."""
        return self.share

    @property
    def share(self) -> int:
        """Rows or pairs of a worker in a step, at most: where they do not divide, some workers have one less."""
        return -(-self.batch // self.workers)

    @property
    def accumulation(self) -> int:
        """Forward passes of a worker in a step."""
        return -(-self.share // self.micro_batch)

    def with_world_size(self, workers: int) -> Self:
        """Return the recipe by which so many workers compute: of an elastic run, those of the moment."""
        return self.model_copy(update={"workers": workers, "min_workers": None})

    def recipe_digest(self) -> str:
        """Return the sha256 of every knob that the adapter depends on, in hex."""
        return canonical_json_digest(self.model_dump(mode="json"))


class MNTPConfig(AdapterRecipe):
    """Stage 1, masked next-token prediction. Defaults are LLM2Vec's recipe (arXiv 2404.05961, appendix)."""

    objective: ClassVar[str] = "mntp"
    accuracy_name: ClassVar[str] = "masked_accuracy"

    mask_share: float = Field(0.2, gt=0, le=1, description="Share of ordinary tokens that are targets.")
    hide_share: float = Field(0.8, ge=0, le=1, description="Share of targets shown as the mask token.")
    random_share: float = Field(0.1, ge=0, le=1, description="Share of targets shown as a random token.")
    mask_token_id: int | None = Field(
        None, ge=0, description="The tokenizer's own mask token, or `_`, by default."
    )
    batch_rows: int = Field(32, ge=1, description="Conversations in a step, over all workers.")
    micro_rows: int | None = Field(
        None, ge=1, description="Conversations in one forward pass of a worker; its whole share by default."
    )

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        if self.hide_share + self.random_share > 1:
            raise ValueError("hide_share and random_share together are more than 1")
        return self

    @property
    def batch(self) -> int:
        """Conversations in a step, over all workers."""
        return self.batch_rows

    @property
    def micro_batch(self) -> int:
        """Conversations in one forward pass of a worker, at most."""
        return self.micro_rows or self.share


class ContrastiveConfig(AdapterRecipe):
    """Stage 2: a text and its positive are drawn together, the others of the batch are pushed away.

    Defaults are LLM2Vec's unsupervised stage 2 (arXiv 2404.05961, appendix): SimCSE (arXiv 2104.08821) with
    attention dropout 0.3. A step has one forward pass: every pair of it is a negative of every other.
    """

    objective: ClassVar[str] = "contrastive"
    accuracy_name: ClassVar[str] = "batch_accuracy"

    pairs: Literal["simcse", "turns", "feedback"] = Field(
        "simcse",
        description="A turn with itself, read with two dropouts; a turn with the next one; or these and answers "
        "that people called good, with the bad ones as hard negatives.",
    )
    temperature: float = Field(0.05, gt=0, description="Cosines are divided by it.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Attention dropout, while training only.")
    min_tokens: int = Field(4, ge=1, description="Shorter texts are left out, and so are their pairs.")
    learning_rate: float = Field(3e-5, gt=0)
    max_tokens: int = Field(128, ge=2, description="Longer texts are cut.")
    batch_pairs: int = Field(128, ge=2, description="Pairs in a step, over all workers.")

    @model_validator(mode="after")
    def _pairs_differ(self) -> Self:
        if self.pairs == "simcse" and not (self.dropout or self.lora_dropout):
            raise ValueError("without dropout both readings of a text are the same vector")
        if self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens is more than max_tokens")
        return self

    @property
    def batch(self) -> int:
        """Pairs in a step, over all workers."""
        return self.batch_pairs


RECIPES: Mapping[str, type[AdapterRecipe]] = MappingProxyType(
    {recipe.objective: recipe for recipe in (MNTPConfig, ContrastiveConfig)}
)


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


def stage_2_after(first: MNTPConfig, knobs: Iterable[str]) -> ContrastiveConfig:
    """Return the recipe of stage 2 with knobs as `config_from` takes them, and stage 1's `SHARED_KNOBS` else.

    Raises as `config_from` does.
    """
    values = first.model_dump(mode="json")
    shared = [f"{name}={json.dumps(values[name])}" for name in SHARED_KNOBS if name in values]
    return config_from(ContrastiveConfig, [*shared, *knobs])
