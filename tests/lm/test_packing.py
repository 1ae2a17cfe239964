"""Packed rows against the same rows one by one, on every architecture that may be packed."""

import pytest
import torch
from transformers import FalconH1Config, GPT2Config

from mongars.errors import TrainingError
from mongars.lm.packing import allow_packing, packed_attention
from mongars.lm.token_rows import PackedRows, PaddedRows
from mongars.neurons.bidirectional import bidirectional_encoder
from tests.neurons.test_bidirectional import ARCHITECTURES, WINDOWED, of_architecture

ROWS = [list(range(10, 17)), [5, 6], list(range(30, 50)), [7, 8], [9]]
SEQUENTIAL = {  # attention next to a state space, which mixes every token with earlier ones
    "mamba_d_ssm": 32,
    "mamba_n_heads": 2,
    "mamba_d_head": 16,
    "mamba_d_state": 4,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
}


def packing(base, config_class, max_tokens=32, **changes):
    encoder = bidirectional_encoder(of_architecture(base, config_class, **changes))
    alone = [PaddedRows.of([row]).states(encoder).detach() for row in ROWS]
    allow_packing(encoder, max_tokens)
    return encoder, alone


@pytest.mark.parametrize("config_class", [*ARCHITECTURES, GPT2Config])
def test_packed_rows_have_the_states_of_each_row_alone_within_1e_5(base, config_class):
    encoder, alone = packing(base, config_class)
    found = PackedRows.of(ROWS).states(encoder)
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("config_class", ARCHITECTURES)
def test_a_row_attends_to_all_of_its_own_tokens_and_none_of_another(base, config_class):
    encoder, _ = packing(base, config_class)
    before = PackedRows.of(ROWS).states(encoder)
    after = PackedRows.of([*ROWS[:2], [*ROWS[2][:-1], 60], *ROWS[3:]]).states(encoder)
    changed = (before - after).abs().amax(-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == list(range(9, 29))


@pytest.mark.parametrize(("config_class", "changes"), WINDOWED)
def test_only_a_sliding_window_shorter_than_a_row_is_refused(base, config_class, changes):
    with pytest.raises(TrainingError, match="see 3 tokens, fewer than max_tokens 4"):
        packing(base, config_class, 4, **changes)
    packing(base, config_class, 32, **changes | {"sliding_window": 32})


def test_an_architecture_that_packing_changes_is_refused_by_its_name(base):
    encoder = bidirectional_encoder(of_architecture(base, FalconH1Config, **SEQUENTIAL))
    with pytest.raises(TrainingError, match="falcon_h1 gives different states") as raised:
        allow_packing(encoder, 32)
    assert "packing" in raised.value.remedy


def test_attention_across_texts_is_refused(base, monkeypatch):
    def leaking(*arguments, packed_runs=None, **options):
        whole = ((1, sum(count * length for count, length in packed_runs)),)
        return packed_attention(*arguments, packed_runs=whole, **options)

    monkeypatch.setattr("mongars.lm.packing.packed_attention", leaking)
    with pytest.raises(TrainingError, match="gives different states when texts are packed"):
        allow_packing(bidirectional_encoder(base), 32)


def test_an_encoder_of_packed_rows_refuses_padded_ones(base):
    encoder = bidirectional_encoder(base)
    allow_packing(encoder, 32)
    with pytest.raises(TypeError, match="packed rows only"):
        PaddedRows.of(ROWS).states(encoder)
    padded = PaddedRows.of(ROWS).states(bidirectional_encoder(base))
    torch.testing.assert_close(PackedRows.of(ROWS).states(encoder), padded, atol=1e-5, rtol=0)


def test_packing_does_not_change_the_base_or_its_other_encoders(base):
    allow_packing(bidirectional_encoder(base), 32)
    assert base.model.config._attn_implementation == "sdpa"
    PaddedRows.of(ROWS).states(bidirectional_encoder(base))


def test_the_check_restores_training_mode(base):
    encoder = bidirectional_encoder(base).train()
    allow_packing(encoder, 32)
    assert encoder.training
