"""A base made in this process, of conversations at hand."""

from pathlib import Path

import pytest

from mongars.errors import InputError
from mongars.neurons.base import base_model_digest
from mongars.records import Conversation, Turn
from mongars.training.pretraining.local import make_base

CONVERSATIONS = [
    Conversation(f"c{index}", "u", (Turn("user", f"Book table {index}."), Turn("assistant", "It is booked.")))
    for index in range(40)
]


def test_the_loss_falls_and_the_same_conversations_give_the_same_base(tiny, tmp_path: Path):
    config, losses = tiny.model_copy(update={"steps": 40, "decay_steps": 10}), list[float]()
    for name in ("one", "other"):
        make_base(
            CONVERSATIONS,
            tmp_path / name,
            config=config,
            on_report=lambda report: losses.append(report.point.loss),
        )
    first, second = losses[:20], losses[20:]
    assert first == second
    assert first[-1] < 0.7 * first[0]
    assert base_model_digest(tmp_path / "one") == base_model_digest(tmp_path / "other")
    assert "40 conversations" in (tmp_path / "one" / "README.md").read_text()


def test_a_folder_that_holds_something_is_left_alone(tiny, tmp_path: Path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        make_base(CONVERSATIONS, tmp_path, config=tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_too_little_text_is_refused_and_nothing_is_written(tiny, tmp_path: Path):
    with pytest.raises(InputError, match="Too little text"):
        make_base(CONVERSATIONS[:1], tmp_path / "base", config=tiny.model_copy(update={"context": 512}))
    assert list(tmp_path.iterdir()) == []
