"""The interfaces that the self-training cycle depends on."""

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


class OutcomeRecorder(Protocol):
    """The subset of training's AdapterOutcomes that a cycle uses."""

    def judged(
        self,
        run: str,
        digest: str,
        verdict: Literal["promoted", "rejected"],
        reason: str,
        metrics: Mapping[str, float],
    ) -> None:
        """Record the gate's verdict on the adapter of a run."""
        ...

    def served(self, run: str, digest: str, generation: int) -> None:
        """Record the adapter that a generation serves."""
        ...


class CycleRegistry(Protocol):
    """The subset of BlockingRegistryClient that a cycle uses."""

    def snapshot(self) -> AdapterManifest:
        """Return the manifest."""
        ...

    def publish(self, request: PublishRequest) -> Publication:
        """Publish an adapter."""
        ...

    def register(self, request: PublishRequest) -> Publication:
        """Register an adapter as a candidate."""
        ...

    def reject(self, digest: str, *, metrics: Mapping[str, float]) -> Publication:
        """Mark a candidate as rejected."""
        ...

    def status(self) -> RegistryStatus:
        """Return the live replicas."""
        ...


@dataclass(frozen=True, slots=True)
class Collaborators:
    """The implementations of a cycle's stages.

    `curate` creates a dataset version from the consented conversations. `evaluate` measures an adapter folder, or
    the untrained bidirectional base for None, on the held-out rows of a version. `adapter_folder` finds a
    registered adapter.
    """

    curate: Callable[[], CurationReport]
    train: Callable[[DatasetRef], "TrainedAdapter"]
    evaluate: Callable[[Path | None, DatasetRef], Evaluation]
    gate: Gate
    registry: CycleRegistry
    adapter_folder: Callable[[AdapterRef], Path]
    rollout: Rollout
    outcomes: OutcomeRecorder
