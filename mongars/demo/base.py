"""The small base model that stands in until a trained one ships (docs/decisions/004).

Owns its text (generated, without planted faults) and its recipe. Nobody's conversations go into it.
"""

from collections.abc import Callable
from pathlib import Path

from mongars.demo.generator import generate

BaseProgress = Callable[[int, int, float], None]  # step (from 1), steps, loss

CONVERSATIONS = 2400
SEED = 11
SHAPE = {"vocab_size": 2048, "hidden_size": 192, "layers": 4, "heads": 4, "intermediate_size": 512}
TRAINING = {"steps": 150, "batch_rows": 4, "warmup_steps": 15, "decay_steps": 75, "learning_rate": 5e-3}


def base_is_there(folder: Path) -> bool:
    """Return whether `folder` holds a model."""
    return (folder / "config.json").is_file()


def make_demo_base(folder: Path, on_progress: BaseProgress | None = None) -> None:
    """Make the small base in `folder`, in about a minute on two cores. Raises InputError if it is not empty."""
    from mongars.training.pretraining.config import PretrainConfig
    from mongars.training.pretraining.local import make_base
    from mongars.training.pretraining.run import PretrainReport

    def told(report: PretrainReport) -> None:
        if on_progress:
            on_progress(report.point.step, report.steps, report.point.loss)

    conversations = generate(CONVERSATIONS, seed=SEED, faults=False).conversations
    config = PretrainConfig.model_validate({**SHAPE, **TRAINING, "checkpoint_steps": TRAINING["steps"]})
    make_base(conversations, folder, config=config, on_report=told)
