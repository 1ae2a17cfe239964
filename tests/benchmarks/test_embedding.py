"""Every way gives the same vectors, on a tiny base."""

import json

import pytest
import torch
from torch import nn

from benchmarks import embedding
from benchmarks.embedding import PRODUCTS, WAYS, main


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(embedding, "TOKENS", (3, 20))


def test_every_way_has_rates_and_the_vectors_agree(measured, base_folder, monkeypatch):
    texts = ["hello there " * (1 + place % 7) for place in range(20)]
    monkeypatch.setattr(embedding, "make_texts", lambda _tokenizer, count, seed: texts[:count])
    result = measured(main, "--base", base_folder, "--texts", 20, "--repeats", 2, "--threads", 1)
    assert set(result["rates"]) == {"ours", *WAYS, PRODUCTS}
    assert all(len(rates) == 2 and min(rates) > 0 for rates in result["rates"].values())
    assert max(result["farthest"].values()) < 1e-5


def test_in_bfloat16_the_usual_ways_run_in_both_types(measured, base_folder, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
    flags = ("--texts", 4, "--repeats", 1, "--threads", 1, "--dtype", "bfloat16")
    result = measured(main, "--base", base_folder, *flags)
    assert result["dtype"] == "bfloat16"
    assert set(result["rates"]) == {"ours", *WAYS, *(f"{name}, bfloat16" for name in WAYS), PRODUCTS}
    assert result["farthest"]["ours"] == 0
    assert all(1e-5 < far < 0.05 for name, far in result["farthest"].items() if name in WAYS)


def test_the_bare_products_cover_every_token_and_layer(base, monkeypatch):
    monkeypatch.setattr("mongars.neurons.neurons.TOKEN_BUDGET", 8)
    seen = []

    def note(layer: nn.Module, states: tuple[torch.Tensor], _: object) -> None:
        if isinstance(layer, nn.Linear) and states[0].dim() == 2:  # transformers' own passes are of rows of tokens
            seen.append(tuple(states[0].shape))

    hook = nn.modules.module.register_module_forward_hook(note)
    embedding.products_alone(base, 19)
    hook.remove()
    layers = [module for module in base.model.model.modules() if isinstance(module, nn.Linear)]
    assert sorted(seen) == sorted((count, layer.in_features) for layer in layers for count in (8, 8, 3))


def test_texts_repeat_with_their_seed_and_change_with_it(base):
    texts = embedding.make_texts(base.tokenizer, 10, seed=0)
    assert texts == embedding.make_texts(base.tokenizer, 10, seed=0)
    assert texts != embedding.make_texts(base.tokenizer, 10, seed=1)
    assert len(set(texts)) == 10


def test_the_copy_for_an_older_transformers_keeps_weights_and_tokens(base_folder, tmp_path):
    copy = embedding.older_copy(base_folder, tmp_path / "copy")
    copied, original = (json.loads((folder / "config.json").read_text()) for folder in (copy, base_folder))
    assert copied["rope_theta"] == original["rope_parameters"]["rope_theta"]
    copied, original = (
        json.loads((folder / "tokenizer_config.json").read_text()) for folder in (copy, base_folder)
    )
    assert copied["additional_special_tokens"] == original["extra_special_tokens"]
    assert copied["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_missing_infinity_is_an_error(failed, base_folder):
    code, message = failed(
        main, "--base", base_folder, "--texts", 4, "--repeats", 1, "--threads", 1, "--infinity", "false"
    )
    assert code == 4
    assert "infinity-emb failed" in message
