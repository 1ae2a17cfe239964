"""The recipes of both training stages: every hyperparameter of a run, validated, and the digest over them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mongars.errors import SettingsError
from mongars.storage.digests import canonical_json_digest

SHARED_FIELDS = (
    *("lora_rank", "lora_alpha", "target_modules", "packing"),
    *("workers", "min_workers", "threads", "zero_stage", "precision", "recompute", "seed"),
)
"""Stage 2 takes these from stage 1, because its adapter must fit and the base and the machine are the same."""
Precision = Literal["auto", "fp32", "bf16"]
Recipe = TypeVar("Recipe", bound=BaseModel)


class AdapterRecipe(BaseModel, ABC):
    """The options of training a LoRA adapter that do not depend on the objective.

    The numbers of workers and threads belong to the recipe, because they change the order of floating-point sums
    and with it the bytes of the adapter. For an elastic run, one with `min_workers`, only the range counts.
    `checkpoint_steps` does not affect the adapter, so dumps and digests exclude it.
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
        True, description="Concatenate rows instead of padding; refused for architectures that do not support it."
    )
    steps: int = Field(1000, ge=1)
    workers: int = Field(2, ge=1, description="Workers; the maximum of an elastic run.")
    min_workers: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda value: value is None,  # keeps the digest of runs with a fixed number
        description="Makes the run elastic: it continues with as many workers, from this to `workers`, as fit.",
    )
    threads: int = Field(1, ge=1, description="Threads of a worker.")
    zero_stage: int = Field(1, ge=0, le=3, description="What DeepSpeed ZeRO shards (arXiv 1910.02054).")
    precision: Precision = Field(
        "auto",
        exclude_if=lambda value: value == "auto",  # keeps the digest of runs from before this field
        description="Precision of matrix products; auto is bf16 on a GPU, else fp32. Weights and sums are fp32.",
    )
    recompute: bool = Field(
        False,
        exclude_if=lambda value: not value,
        description="Recompute activations for the gradient (arXiv 1604.06174): less memory, more time.",
    )
    seed: int = Field(0, ge=0)
    checkpoint_steps: int = Field(
        100, ge=1, exclude=True, description="A killed run loses at most this many steps. Not part of the recipe."
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
        """Rows or pairs of a step, over all workers."""

    @property
    def micro_batch(self) -> int:
        """Most rows or pairs in one forward pass of a worker."""
        return self.worker_batch

    @property
    def worker_batch(self) -> int:
        """Most rows or pairs of a worker in a step; some have one less where the batch does not divide evenly."""
        return -(-self.batch // self.workers)

    @property
    def accumulation(self) -> int:
        """Forward passes of a worker in a step."""
        return -(-self.worker_batch // self.micro_batch)

    def with_world_size(self, workers: int) -> Self:
        """Return the recipe with a fixed number of workers: the current one, for an elastic run."""
        return self.model_copy(update={"workers": workers, "min_workers": None})

    def recipe_digest(self) -> str:
        """Return the SHA-256, in hex, of every field that the adapter depends on."""
        return canonical_json_digest(self.model_dump(mode="json"))


class MNTPConfig(AdapterRecipe):
    """Stage 1, masked next-token prediction. The defaults are LLM2Vec's (arXiv 2404.05961, appendix)."""

    objective: ClassVar[str] = "mntp"
    accuracy_name: ClassVar[str] = "masked_accuracy"

    mask_share: float = Field(0.2, gt=0, le=1, description="Share of ordinary tokens that are targets.")
    hide_share: float = Field(0.8, ge=0, le=1, description="Share of targets shown as the mask token.")
    random_share: float = Field(0.1, ge=0, le=1, description="Share of targets shown as a random token.")
    mask_token_id: int | None = Field(None, ge=0, description="Default: the tokenizer's own mask token, or `_`.")
    batch_rows: int = Field(32, ge=1, description="Conversations of a step, over all workers.")
    micro_rows: int | None = Field(
        None, ge=1, description="Conversations in one forward pass of a worker; all of its step by default."
    )

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        if self.hide_share + self.random_share > 1:
            raise ValueError("hide_share and random_share together are more than 1")
        return self

    @property
    def batch(self) -> int:
        """Conversations of a step, over all workers."""
        return self.batch_rows

    @property
    def micro_batch(self) -> int:
        """Most conversations in one forward pass of a worker."""
        return self.micro_rows or self.worker_batch


class ContrastiveConfig(AdapterRecipe):
    """Stage 2, contrastive learning: a text is pulled to its positive and pushed away from the rest of the batch.

    The defaults are LLM2Vec's unsupervised stage 2 (arXiv 2404.05961, appendix): SimCSE (arXiv 2104.08821) with
    attention dropout 0.3. A step is one forward pass, so that its pairs are each other's negatives.
    """

    objective: ClassVar[str] = "contrastive"
    accuracy_name: ClassVar[str] = "batch_accuracy"

    pairs: Literal["simcse", "turns", "feedback"] = Field(
        "simcse",
        description="simcse: a turn with itself under another dropout mask. turns: a turn with the next one. "
        "feedback: these, and answers that users rated good, with bad ones as hard negatives.",
    )
    temperature: float = Field(0.05, gt=0, description="Divisor of the cosines.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Attention dropout during training.")
    min_tokens: int = Field(4, ge=1, description="Shorter texts are left out, with their pairs.")
    learning_rate: float = Field(3e-5, gt=0)
    max_tokens: int = Field(128, ge=2, description="Longer texts are cut.")
    batch_pairs: int = Field(128, ge=2, description="Pairs of a step, over all workers.")

    @model_validator(mode="after")
    def _pairs_differ(self) -> Self:
        if self.pairs == "simcse" and not (self.dropout or self.lora_dropout):
            raise ValueError("without dropout a text and its positive are the same vector")
        if self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens is more than max_tokens")
        return self

    @property
    def batch(self) -> int:
        """Pairs of a step, over all workers."""
        return self.batch_pairs


RECIPES: Mapping[str, type[AdapterRecipe]] = MappingProxyType(
    {recipe.objective: recipe for recipe in (MNTPConfig, ContrastiveConfig)}
)


def config_from(recipe: type[Recipe], options: Iterable[str]) -> Recipe:
    """Return the default recipe with options of the command line, each OPTION=JSON such as `steps=60`.

    Raises SettingsError for an option that is unknown, out of range or not JSON.
    """
    changes: dict[str, Any] = {}
    for option in options:
        name, _, value = option.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            raise SettingsError(f"{option!r} is not OPTION=JSON.", remedy="For example: --set steps=60") from None
    try:
        return recipe(**changes)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise SettingsError(
            f"{name}: {first['msg']}.", remedy=f"The options are {', '.join(recipe.model_fields)}."
        ) from None


def stage_2_after(first: MNTPConfig, options: Iterable[str]) -> ContrastiveConfig:
    """Return the recipe of stage 2 with options as for `config_from`; `SHARED_FIELDS` default to stage 1's.

    Raises SettingsError like `config_from`.
    """
    values = first.model_dump(mode="json")
    shared = [f"{name}={json.dumps(values[name])}" for name in SHARED_FIELDS if name in values]
    return config_from(ContrastiveConfig, [*shared, *options])
