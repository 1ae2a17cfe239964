"""Who does the work of a self-training cycle: what the engine is handed.

Owns the shapes of these parts only. `mongars.workflows.self_train` hands in the real ones, tests their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mongars.curation.recipe import CurationReport
from mongars.evaluation.metrics import Evaluation
from mongars.evolution.gate import Gate
from mongars.evolution.rollout import Rollout
from mongars.records import AdapterRef, DatasetRef, RegistryStatus
from mongars.registry import AdapterManifest, Publication, PublishRequest

if TYPE_CHECKING:  # its module imports torch and ray
    from mongars.training.trainer import TrainedAdapter


class Outcomes(Protocol):
    """The part of training's AdapterOutcomes that a cycle needs."""

    def judged(
        self,
        run: str,
        digest: str,
        verdict: Literal["promoted", "rejected"],
        reason: str,
        metrics: Mapping[str, float],
    ) -> None:
        """Record the gate's decision."""
        ...

    def served(self, run: str, digest: str, generation: int) -> None:
        """Record what a generation serves."""
        ...


class Registry(Protocol):
    """The part of BlockingRegistryClient that a cycle needs."""

    def snapshot(self) -> AdapterManifest:
        """Return the manifest."""
        ...

    def publish(self, request: PublishRequest) -> Publication:
        """Serve an adapter."""
        ...

    def register(self, request: PublishRequest) -> Publication:
        """Keep an adapter as a candidate."""
        ...

    def reject(self, digest: str, *, metrics: Mapping[str, float]) -> Publication:
        """Mark a candidate as refused."""
        ...

    def status(self) -> RegistryStatus:
        """Return the replicas that were heard of lately."""
        ...


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Who does the work of each stage.

    `curate` makes a dataset version of the consented conversations. `evaluate` measures an adapter folder, or for
    None the untrained bidirectional base, on the held-out rows of a version. `adapter_folder` finds a registered
    adapter.
    """

    curate: Callable[[], CurationReport]
    train: Callable[[DatasetRef], "TrainedAdapter"]
    evaluate: Callable[[Path | None, DatasetRef], Evaluation]
    gate: Gate
    registry: Registry
    adapter_folder: Callable[[AdapterRef], Path]
    rollout: Rollout
    outcomes: Outcomes
