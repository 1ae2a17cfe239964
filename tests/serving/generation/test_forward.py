"""Every implementation gives the logits of each sequence alone, with and without an adapter."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from mongars.lm.adapters import clone_sharing_tensors
from mongars.lm.cpu.attention import product_attention_is_faster
from mongars.lm.cpu.onednn import use_onednn
from mongars.serving.generation import llama
from mongars.serving.generation.forward import TransformersForward, forward_of
from mongars.serving.generation.llama import GROUP_ROWS, LlamaForward

LLAMAS = [
    ("llama", {}),
    ("llama", {"attention_bias": True, "head_dim": 16}),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 8}),
    ("mistral", {"sliding_window": None}),
]
PARTS = ([3, 9, 1], [4, 2, 6])  # tokens of each sequence, read in two passes


def by_products(model: nn.Module) -> LlamaForward:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama, "product_attention_is_faster", lambda _: True)
        return LlamaForward(model)


def tokens(count: int, seed: int) -> list[int]:
    return torch.randint(5, 120, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.no_grad()
def alone(model: nn.Module, sequence: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([sequence]), use_cache=False).logits[0, -1]


def adapted(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(clone_sharing_tensors(model), config).eval()


@pytest.mark.parametrize("forward", [LlamaForward, by_products, TransformersForward])
@pytest.mark.parametrize(("kind", "more"), LLAMAS)
@torch.inference_mode()
def test_prefill_at_once_or_in_parts_and_decode_equal_each_sequence_alone(kind, more, forward, tiny):
    for model in (tiny(kind, **more), adapted(tiny(kind, **more))):
        passes = forward(model)
        sequences = [tokens(count, seed) for seed, count in enumerate(PARTS[0])]
        passes.cache.reserve(len(sequences), 40)
        logits = passes.prefill(sequences, first_row=0, start=0)
        for row, sequence in enumerate(sequences):
            torch.testing.assert_close(logits[row], alone(model, sequence), rtol=1e-4, atol=1e-4)
        more_tokens = tokens(PARTS[1][0], 9)
        logits = passes.prefill([more_tokens], first_row=0, start=len(sequences[0]))
        sequences[0] += more_tokens
        torch.testing.assert_close(logits[0], alone(model, sequences[0]), rtol=1e-4, atol=1e-4)
        for token in (7, 60):
            logits = passes.decode([token] * len(sequences), list(map(len, sequences)))
            sequences = [[*sequence, token] for sequence in sequences]
            for row, sequence in enumerate(sequences):
                torch.testing.assert_close(logits[row], alone(model, sequence), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("forward", [LlamaForward, by_products])
@torch.inference_mode()
def test_more_rows_than_one_group_equal_each_sequence_alone(forward, tiny):
    model = tiny("llama")
    passes = forward(model)
    sequences = [tokens(1 + 2 * n, n) for n in range(GROUP_ROWS + 3)]
    passes.cache.reserve(len(sequences), 64)
    passes.prefill(sequences, first_row=0, start=0)
    logits = passes.decode([11] * len(sequences), list(map(len, sequences)))
    for row, sequence in enumerate(sequences):
        torch.testing.assert_close(logits[row], alone(model, [*sequence, 11]), rtol=1e-4, atol=1e-4)


def test_attention_is_by_products_in_bf16_with_onednn(tiny):
    models = [tiny("llama"), tiny("llama").to(torch.bfloat16)]
    assert [product_attention_is_faster(model.lm_head) for model in models] == [False, False]
    for model in models:
        use_onednn(model)
    assert [product_attention_is_faster(model.lm_head) for model in models] == [False, True]


@torch.inference_mode()
def test_attention_by_products_in_bf16_is_as_accurate_as_torchs(monkeypatch, tiny):
    whole, rounded = tiny("llama"), tiny("llama").to(torch.bfloat16)
    sequences = [tokens(5 + 3 * n, n) for n in range(GROUP_ROWS)]
    expected = torch.stack([alone(whole, [*sequence, 11]) for sequence in sequences])
    monkeypatch.setattr(llama, "product_attention_is_faster", lambda _: False)
    errors = []
    for passes in (LlamaForward(rounded), by_products(rounded)):
        passes.cache.reserve(len(sequences), 64)
        passes.prefill(sequences, first_row=0, start=0)
        logits = passes.decode([11] * len(sequences), list(map(len, sequences)))
        errors.append(float((logits.float() - expected).abs().mean()))
    assert 0 < errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("mistral", {"sliding_window": 4}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("gemma", {"head_dim": 8}),
        ("granite", {"logits_scaling": 4.0}),
        ("llama", {"hidden_act": "gelu"}),
    ],
)
def test_architectures_unlike_llama_run_by_transformers(kind, more, tiny):
    assert isinstance(forward_of(tiny(kind, **more)), TransformersForward)


@pytest.mark.parametrize(("kind", "more"), LLAMAS)
def test_llama_and_its_like_run_without_padding(kind, more, tiny):
    for model in (tiny(kind, **more), adapted(tiny(kind, **more))):
        passes = forward_of(model)
        assert isinstance(passes, LlamaForward)
        assert passes.pass_tokens([3, 9]) == 12
    assert TransformersForward(tiny(kind, **more)).pass_tokens([3, 9]) == 18
