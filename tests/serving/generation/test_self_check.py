"""Architectures whose logits differ in a batch are refused by name."""

import pytest
import torch

from mongars.errors import SettingsError
from mongars.serving.generation.forward import FULL, SLIDING, attention_mask
from mongars.serving.generation.self_check import check_batch_invariance


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 8}),
        ("mistral", {"sliding_window": 4}),
        ("gemma", {"head_dim": 8}),
        ("gemma3_text", {"head_dim": 8, "sliding_window": 4, "layer_types": [SLIDING, FULL]}),
        ("phi3", {"sliding_window": 4}),
        ("smollm3", {}),
        ("granite", {"logits_scaling": 4.0}),
        ("olmo2", {}),
    ],
)
def test_these_architectures_pass(kind, more, tiny):
    check_batch_invariance(tiny(kind, **more))


def test_a_mask_without_the_sliding_window_is_detected(monkeypatch, tiny):
    model = tiny("mistral", sliding_window=4)
    whole = type("Config", (), {"model_type": "mistral"})()
    monkeypatch.setattr(
        "mongars.serving.generation.forward.attention_mask",
        lambda _config, positions, length: attention_mask(whole, positions, length),
    )
    with pytest.raises(SettingsError, match="mistral gives different logits in a batch"):
        check_batch_invariance(model)


def test_an_unknown_kind_of_attention_is_refused_by_name():
    config = type("Config", (), {"model_type": "hybrid", "layer_types": ["linear_attention", FULL]})()
    with pytest.raises(SettingsError, match="hybrid has layers of linear_attention"):
        attention_mask(config, torch.tensor([[3]]), 4)


def test_a_window_attends_to_its_last_tokens_and_no_later_one():
    config = type("Config", (), {"model_type": "mistral", "sliding_window": 2})()
    mask = attention_mask(config, torch.tensor([[0, 1, 2, 3]]), 5)
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0]]
