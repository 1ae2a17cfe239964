"""The shipped base model: complete, small, usable, and described by its card."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mongars.lm.base import load_base
from mongars.lm.base_files import base_model_digest
from mongars.records import GenerationRequest, Sampling, Turn

NANO = Path(__file__).parents[2] / "models" / "base" / "mongars-nano"
LARGEST_BYTES = 32 * 10**6


@pytest.fixture(scope="module")
def nano():
    return load_base(NANO)


def test_the_figures_of_the_card_are_of_these_weights():
    card = (NANO / "README.md").read_text(encoding="utf-8")
    assert card.count(f"digest {base_model_digest(NANO)}") == 3  # under each of its three tables of figures


def test_it_has_safetensors_and_fits_into_a_repository():
    files = {path.name: path.stat().st_size for path in NANO.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "chat_template.jinja"} <= files.keys()
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    assert sum(files.values()) < LARGEST_BYTES


@given(st.text())
@example(text="Grüße, 日本語, 👩‍👩‍👧‍👦 \x00 \ud7ff\n\t  two  spaces")
def test_its_tokenizer_reproduces_any_text(nano, text):
    ids = nano.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert nano.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text


def test_it_answers_in_a_sentence_and_stops(nano):
    from mongars.serving.generation.offline import generate_one

    said: list[str] = []
    turns = (Turn("user", "I would like to book a table for two tonight."),)
    finish, usage = generate_one(
        nano.model, nano.tokenizer, GenerationRequest("r", turns, Sampling(64)), said.append
    )
    assert finish == "stop"
    assert 3 < usage.completion_tokens < 40
    assert "".join(said).strip().endswith(("?", ".", "!"))
