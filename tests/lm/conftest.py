"""A tiny Llama with a byte-level tokenizer, saved as a folder, loaded as a base."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mongars.lm.base import Base, load_base
from mongars.lm.cpu import onednn as linear


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="session")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(base_path: Path) -> Base:
    return load_base(base_path)


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Return the rows of every product that oneDNN made."""
    made: list[int] = []
    original = linear._multiply

    def counted(states, weight, bias):
        made.append(states.flatten(0, -2).shape[0])
        return original(states, weight, bias)

    monkeypatch.setattr(linear, "_multiply", counted)
    return made


@pytest.fixture(params=[("AuthenticAMD", True), ("GenuineIntel", False)])
def onednn(request, tmp_path, monkeypatch) -> bool:
    """Run on a processor of a vendor; return whether oneDNN is the faster library there."""
    vendor, faster = request.param
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(linear, "CPU_INFO", tmp_path / "cpuinfo")
    return faster
