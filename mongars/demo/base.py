"""The small base model that stands in until a trained one ships (docs/decisions/004).

Owns its text (generated, without planted faults) and its recipe. Nobody's conversations go into it.
"""

from collections.abc import Callable
from pathlib import Path

from mongars.demo.generator import generate

BaseProgress = Callable[[int, int, float], None]  # step (from 1), steps, loss of the step

CONVERSATIONS = 2400
SEED = 11


def base_is_there(folder: Path) -> bool:
    """Return whether `folder` holds a model."""
    return (folder / "config.json").is_file()


def make_demo_base(folder: Path, on_progress: BaseProgress | None = None) -> None:
    """Make the small base in `folder`, in about a minute on two cores. Raises InputError if it is not empty."""
    from mongars.training.pretrain import make_base

    make_base(generate(CONVERSATIONS, seed=SEED, faults=False).conversations, folder, on_progress=on_progress)
