"""A base of another shape that loads as any other, the same for the same seed."""

import pytest

from benchmarks.random_base import main
from mongars.lm.base import load_base

SHAPE = ("--layers", 2, "--hidden", 24, "--inner", 32, "--heads", 4, "--stored-heads", 2)


@pytest.fixture
def make(measured, base_folder, tmp_path):
    """Return a function that makes a base of the given name; it returns its folder and what was printed."""

    def made(name, *flags):
        folder = tmp_path / name
        return folder, measured(main, "--base", base_folder, "--output", folder, *SHAPE, *flags)

    return made


def test_the_base_has_the_requested_shape_and_the_given_tokenizer(make, base):
    folder, message = make("small")
    loaded = load_base(folder)
    config = loaded.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (2, 24, 32)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 6)
    assert message["parameters"] == sum(each.numel() for each in loaded.model.parameters())
    assert loaded.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    assert loaded.tokenizer.chat_template == base.tokenizer.chat_template


def test_the_seed_decides_the_weights(make):
    digests = [load_base(make(f"{n}", "--seed", seed)[0]).digest for n, seed in enumerate((0, 0, 1))]
    assert digests[0] == digests[1] != digests[2]


def test_an_existing_folder_and_indivisible_heads_are_refused(base_folder, tmp_path, capsys):
    for flags in (("--output", tmp_path), ("--output", tmp_path / "new", "--hidden", 25)):
        assert main(["--base", str(base_folder), *map(str, (*flags[:2], *SHAPE, *flags[2:]))]) != 0
        assert ("already exists" if flags[1] == tmp_path else "not divisible") in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
