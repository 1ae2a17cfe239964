"""Every pooler gives the means of the encoder's own forward pass over each window alone."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from mongars.neurons.mean_pooling import PaddedMeanPooler, VarlenMeanPooler, mean_pooler

SHAPE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
LLAMAS = [("llama", {}), ("qwen2", {}), ("qwen3", {"head_dim": 8}), ("mistral", {"sliding_window": None})]
LENGTHS = (3, 17, 1, 9)  # enough tokens for oneDNN together, too few alone


def encoder(kind, **more):
    from mongars.lm.cpu.onednn import use_onednn

    torch.manual_seed(0)
    model = AutoModel.from_config(CONFIG_MAPPING[kind](**SHAPE, **more), attn_implementation="sdpa").eval()
    use_onednn(model)
    return model


def adapted(model):
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "gate_proj"], init_lora_weights=False)
    return get_peft_model(model, config).eval()


def windows():
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(5, 120, (length,), generator=generator).tolist() for length in LENGTHS]


@pytest.mark.parametrize("means", [VarlenMeanPooler, PaddedMeanPooler])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("kind", "more"), LLAMAS)
@torch.inference_mode()
def test_a_window_in_a_batch_has_the_mean_of_the_encoder_alone(kind, more, is_causal, means):
    for model in (encoder(kind, **more), adapted(encoder(kind, **more))):
        model.config.is_causal = is_causal
        alone = [
            model(input_ids=torch.tensor([window]), use_cache=False).last_hidden_state[0].mean(0)
            for window in windows()
        ]
        torch.testing.assert_close(means(model)(windows()), torch.stack(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "more"), LLAMAS)
def test_llama_and_its_like_run_without_padding(kind, more):
    for model in (encoder(kind, **more), adapted(encoder(kind, **more))):
        assert isinstance(mean_pooler(model), VarlenMeanPooler)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("mistral", {"sliding_window": 4}), ("llama", {"hidden_act": "gelu"}), ("gemma", {"head_dim": 8})],
)
def test_architectures_unlike_llama_run_by_their_own_forward(kind, more):
    assert isinstance(mean_pooler(encoder(kind, **more)), PaddedMeanPooler)
