import pytest

SHAPE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture(scope="session")
def tiny():
    """Return a function that makes a small model of an architecture, the same each time."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    def make(kind: str, **more):
        torch.manual_seed(0)
        config = CONFIG_MAPPING[kind](**SHAPE, **more)
        return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()

    return make
