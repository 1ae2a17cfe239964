from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mongars.errors import InputError
from mongars.neurons.base import base_model_digest
from mongars.records import Conversation, Turn
from mongars.training.pretrain import PretrainConfig, make_base

TINY = PretrainConfig(
    vocab_size=320,
    hidden_size=32,
    layers=2,
    heads=2,
    intermediate_size=64,
    context=32,
    batch_rows=2,
    steps=25,
    threads=1,
)
CONVERSATIONS = [
    Conversation(f"c{index}", "u", (Turn("user", f"Book table {index}."), Turn("assistant", "It is booked.")))
    for index in range(40)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    losses: list[float] = []
    folder = tmp_path_factory.mktemp("models") / "made"
    make_base(CONVERSATIONS, folder, config=TINY, on_progress=lambda _step, _steps, loss: losses.append(loss))
    return folder, losses


def test_the_loss_falls_and_each_step_is_told(made):
    _, losses = made
    assert len(losses) == TINY.steps
    assert losses[-1] < 0.7 * losses[0]


def test_the_folder_loads_by_plain_transformers_and_answers(made):
    folder, _ = made
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Book table 3."}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        reply = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert reply.shape[1] > prompt["input_ids"].shape[1]
    assert tokenizer.convert_tokens_to_ids("<|end|>") in model.generation_config.eos_token_id


def test_the_same_conversations_and_seed_give_the_same_base(made, tmp_path: Path):
    make_base(CONVERSATIONS, tmp_path / "again", config=TINY)
    assert base_model_digest(tmp_path / "again") == base_model_digest(made[0])


def test_the_card_says_what_it_was_made_from(made):
    card = (made[0] / "README.md").read_text()
    assert "40 conversations" in card
    assert "not a model to serve customers with" in card


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        make_base(CONVERSATIONS, tmp_path, config=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_too_little_text_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(InputError, match="more conversations"):
        make_base(CONVERSATIONS[:1], tmp_path / "base", config=TINY.model_copy(update={"context": 512}))
    assert list(tmp_path.iterdir()) == []
