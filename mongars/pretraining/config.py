"""The configuration of a pretraining run: every hyperparameter, validated, and the digest over them."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mongars.storage.digests import canonical_json_digest
from mongars.training.config import Precision


class PretrainConfig(BaseModel):
    """The hyperparameters of a base model. The defaults are those of mongars-nano, except for its precision.

    The numbers of workers and threads belong to the recipe, because they change the order of floating-point sums
    and with it the bytes of the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    vocab_size: int = Field(8192, ge=300, description="Entries of the tokenizer, with special tokens.")
    hidden_size: int = Field(256, ge=8)
    layers: int = Field(7, ge=1)
    heads: int = Field(4, ge=1)
    intermediate_size: int = Field(768, ge=8)
    context: int = Field(512, ge=8, description="Tokens of a training row, and of the model's context.")
    batch_rows: int = Field(8, ge=1, description="Rows of a step, over all workers.")
    steps: int = Field(6000, ge=1)
    learning_rate: float = Field(1e-2, gt=0)
    warmup_steps: int = Field(100, ge=0, description="First steps, in which the learning rate rises.")
    decay_steps: int = Field(3600, ge=0, description="Last steps, in which the learning rate falls to 0.")
    weight_decay: float = Field(0.1, ge=0)
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of the gradient of a step.")
    workers: int = Field(1, ge=1)
    threads: int = Field(2, ge=1, description="Threads of a worker.")
    precision: Precision = Field(
        "auto", description="Precision of matrix products; auto is bf16 on a GPU, fp32 on a CPU."
    )
    report_steps: int = Field(10, ge=1, description="Steps between two points of the loss curve.")
    heldout_steps: int = Field(200, ge=1, description="Steps between two measurements on held-out text.")
    heldout_rows: int = Field(64, ge=1, description="Most rows of held-out text in a measurement.")
    checkpoint_steps: int = Field(100, ge=1, description="A killed run loses at most this many steps.")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch_rows % self.workers:
            raise ValueError(f"batch_rows {self.batch_rows} is no multiple of workers {self.workers}")
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} is no even multiple of heads {self.heads}")
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ValueError("warmup_steps and decay_steps together are more than steps")
        if self.checkpoint_steps % self.report_steps or self.heldout_steps % self.report_steps:
            raise ValueError("checkpoint_steps and heldout_steps must be multiples of report_steps")
        return self

    @property
    def decay_starts(self) -> int:
        """The first step (from 0) whose learning rate depends on `steps`; until then a run can be extended."""
        return self.steps - self.decay_steps

    def rate(self, step: int) -> float:
        """Return the learning rate of a step (from 0): warm-up, constant, linear decay to 0.

        The trapezoid of Zhai et al. 2022 (arXiv 2106.04560, section 3.5), linear as in Haegele et al. 2024
        (arXiv 2405.18392). Unlike a cosine, it does not depend on the number of steps before the decay starts.
        """
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        fall = min(1.0, (self.steps - step) / max(1, self.decay_steps))
        return self.learning_rate * min(rise, fall)

    def run_digest(self) -> str:
        """Return the SHA-256 of the fields that text and weights depend on before the decay starts."""
        ends = {"steps", "decay_steps", "checkpoint_steps"}
        return canonical_json_digest(self.model_dump(mode="json", exclude=ends))
