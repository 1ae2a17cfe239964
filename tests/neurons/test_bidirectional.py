import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from mongars.errors import AdapterRefusedError, TrainingError
from mongars.lm.adapters import attach_adapter, clone_sharing_tensors
from mongars.lm.base import Base
from mongars.neurons.bidirectional import bidirectional_encoder, causal_encoder, check_bidirectional

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
WINDOW = {"sliding_window": 3, "num_hidden_layers": 1}
EVERY_LAYER = {**WINDOW, "layer_types": ["sliding_attention"]}
ARCHITECTURES = [
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    MistralConfig,
    GemmaConfig,
    Gemma3TextConfig,
    Phi3Config,
    SmolLM3Config,
]
WINDOWED = [
    (MistralConfig, WINDOW),
    (Phi3Config, WINDOW),
    (Gemma3TextConfig, EVERY_LAYER),
    (Qwen2Config, {**EVERY_LAYER, "use_sliding_window": True}),
    (Qwen3Config, {**EVERY_LAYER, "use_sliding_window": True}),
    (SmolLM3Config, {**EVERY_LAYER, "use_sliding_window": True}),
]
IDS = torch.tensor([[5, 6, 7, 8]])


def states(encoder: nn.Module, ids: torch.Tensor = IDS, mask: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state


def of_architecture(base: Base, config_class: type, **changes: object) -> Base:
    """Return a base of another architecture, with random weights as it would be loaded."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_class(**SMALL | changes), attn_implementation="sdpa").eval()
    return Base(model, base.tokenizer, base.path, base.digest)


def reach(encoder: nn.Module) -> list[int]:
    """Return the places whose state changes when the token in the middle of nine changes."""
    ids = torch.arange(9).unsqueeze(0)
    other = ids.clone()
    other[0, 4] = 60
    changed = (states(encoder, ids) != states(encoder, other)).any(-1)[0]
    return changed.nonzero().flatten().tolist()


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


def test_the_base_stays_causal(base: Base):
    bidirectional_encoder(base)
    with pytest.raises(TrainingError, match="stays causal"):
        check_bidirectional(base.model.base_model)


@pytest.mark.parametrize("config_class", ARCHITECTURES)
def test_states_of_the_encoder_depend_on_all_tokens_and_of_the_base_on_earlier_ones(
    base: Base, config_class: type
):
    other = of_architecture(base, config_class)
    assert reach(bidirectional_encoder(other)) == list(range(9))
    assert reach(causal_encoder(other)) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("config_class", ARCHITECTURES)
def test_padding_changes_no_state(base: Base, config_class: type):
    encoder = bidirectional_encoder(of_architecture(base, config_class))
    padded = torch.cat([IDS, torch.zeros(1, 3, dtype=torch.long)], dim=1)
    mask = (torch.arange(7) < 4).long().unsqueeze(0)
    torch.testing.assert_close(states(encoder, padded, mask)[:, :4], states(encoder), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("config_class", "changes"), WINDOWED)
def test_a_sliding_window_reaches_as_far_ahead_as_back(base: Base, config_class: type, changes: dict[str, object]):
    seen = reach(bidirectional_encoder(of_architecture(base, config_class, **changes)))
    assert 4 in seen
    assert 1 < len(seen) < 9
    assert [4 - place for place in seen if place < 4] == [place - 4 for place in seen if place > 4][::-1]


def test_an_architecture_that_stays_causal_is_refused_by_its_name(base: Base):
    config = MambaConfig(vocab_size=64, hidden_size=32, state_size=4, num_hidden_layers=2)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(TrainingError, match="mamba stays causal"):
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
    assert torch.equal(states(clone_sharing_tensors(adapted)), states(adapted))


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
