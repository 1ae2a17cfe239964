import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config, Qwen3Config

from mongars.errors import AdapterRefusedError, TrainingError
from mongars.neurons.base import Base
from mongars.neurons.bidirectional import (
    attach_adapter,
    bidirectional_encoder,
    prove_bidirectional,
    share_tensors_copy,
)

IDS = torch.tensor([[5, 6, 7, 8]])


def states(encoder: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=IDS, use_cache=False).last_hidden_state


@pytest.fixture(scope="module")
def adapter(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose B matrices are not zero, so that it changes the states."""
    folder = tmp_path_factory.mktemp("adapters") / "a"
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(bidirectional_encoder(base), config).save_pretrained(folder)
    return folder


def test_the_encoder_shares_every_tensor_of_the_base(base: Base):
    encoder = bidirectional_encoder(base)
    own = {parameter.data_ptr() for parameter in encoder.parameters()}
    assert own <= {parameter.data_ptr() for parameter in base.model.parameters()}


def test_the_base_stays_causal_beside_its_encoder(base: Base):
    bidirectional_encoder(base)
    with pytest.raises(TrainingError, match="stays causal"):
        prove_bidirectional(base.model.base_model)


@pytest.mark.parametrize("config_class", [Qwen2Config, Qwen3Config, MistralConfig])
def test_other_architectures_become_bidirectional(base: Base, config_class: type):
    config = config_class(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
    )
    model = AutoModelForCausalLM.from_config(config)
    bidirectional_encoder(Base(model, base.tokenizer, base.path, base.digest))


def test_an_adapter_changes_its_own_tree_only(base: Base, adapter: Path):
    plain = bidirectional_encoder(base)
    before = states(plain)
    adapted = attach_adapter(bidirectional_encoder(base), adapter)
    assert not torch.allclose(states(adapted), before)
    assert torch.equal(states(plain), before)
    assert not any("lora" in name for name, _ in base.model.named_parameters())


def test_a_copy_of_an_adapted_encoder_computes_the_same(base: Base, adapter: Path):
    adapted = attach_adapter(bidirectional_encoder(base), adapter)
    assert torch.equal(states(share_tensors_copy(adapted)), states(adapted))


def test_an_adapter_without_safetensors_is_refused(base: Base, tmp_path: Path):
    with pytest.raises(AdapterRefusedError, match=r"adapter_model\.safetensors"):
        attach_adapter(bidirectional_encoder(base), tmp_path)


def test_a_damaged_adapter_is_refused(base: Base, adapter: Path, tmp_path: Path):
    folder = tmp_path / "damaged"
    shutil.copytree(adapter, folder)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(AdapterRefusedError, match="does not fit"):
        attach_adapter(bidirectional_encoder(base), folder)


def test_an_adapter_for_modules_the_base_does_not_have_is_refused(base: Base, adapter: Path, tmp_path: Path):
    folder = tmp_path / "foreign"
    shutil.copytree(adapter, folder)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace("q_proj", "absent_a").replace("v_proj", "absent_b"))
    with pytest.raises(AdapterRefusedError, match="does not fit"):
        attach_adapter(bidirectional_encoder(base), folder)


def test_weights_that_do_not_fill_the_adapter_are_refused(base: Base, adapter: Path, tmp_path: Path):
    folder = tmp_path / "partial"
    shutil.copytree(adapter, folder)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"v_proj"', '"v_proj", "k_proj"'))
    with pytest.raises(AdapterRefusedError, match="not those of its configuration"):
        attach_adapter(bidirectional_encoder(base), folder)
