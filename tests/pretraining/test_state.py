from pathlib import Path

import pytest
import torch

from mongars.errors import TrainingError, TrainingStoppedError
from mongars.pretraining.loop import pretrain_steps
from mongars.pretraining.muon import Muon


def weights(state) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def stopped(tmp_path: Path, fresh, tiny, token_rows) -> Path:
    """The checkpoint of a run that was killed at step 4."""
    path = tmp_path / "checkpoint.safetensors"
    state = fresh()

    def save_and_stop() -> None:
        state.save(path, tiny)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain_steps(state, token_rows, tiny, save=save_and_stop)
    return path


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(stopped, fresh, tiny, token_rows):
    whole, resumed = fresh(), fresh()
    pretrain_steps(whole, token_rows, tiny)
    resumed.load(stopped, tiny)
    assert resumed.step == 4
    pretrain_steps(resumed, token_rows, tiny)
    assert equal(weights(whole), weights(resumed))
    assert whole.curve == resumed.curve


@pytest.mark.parametrize("step", [3, 5])
def test_a_stop_between_points_of_the_curve_changes_neither_bits_nor_curve(
    tmp_path, fresh, tiny, token_rows, step
):
    path, whole, stopped, resumed = tmp_path / "checkpoint.safetensors", fresh(), fresh(), fresh()
    with pytest.raises(TrainingStoppedError, match=f"after step {step} of 12; its checkpoint is kept"):
        pretrain_steps(
            stopped,
            token_rows,
            tiny,
            save=lambda: stopped.save(path, tiny),
            should_stop=lambda: stopped.step == step,
        )
    pretrain_steps(whole, token_rows, tiny)
    resumed.load(path, tiny)
    assert resumed.step == step
    pretrain_steps(resumed, token_rows, tiny)
    assert equal(weights(whole), weights(resumed))
    assert whole.curve == resumed.curve


def test_a_stop_before_the_first_step_writes_no_checkpoint(fresh, tiny, token_rows):
    kept: list[int] = []
    with pytest.raises(TrainingStoppedError, match="it had done no step yet"):
        pretrain_steps(fresh(), token_rows, tiny, save=lambda: kept.append(0), should_stop=lambda: True)
    assert kept == []


def test_without_the_optimizers_state_a_resumed_run_ends_with_other_bits(stopped, fresh, tiny, token_rows):
    whole, resumed = fresh(), fresh()
    pretrain_steps(whole, token_rows, tiny)
    resumed.load(stopped, tiny)
    for optimizer in resumed.optimizers:
        optimizer.state.clear()
    pretrain_steps(resumed, token_rows, tiny)
    assert not equal(weights(whole), weights(resumed))


def test_a_run_can_be_extended_before_its_decay(stopped, fresh, tiny, token_rows):
    longer = tiny.model_copy(update={"steps": 16})
    whole, resumed = fresh(), fresh()
    pretrain_steps(whole, token_rows, longer)
    resumed.load(stopped, longer)
    pretrain_steps(resumed, token_rows, longer)
    assert equal(weights(whole), weights(resumed))


def test_a_run_cannot_be_extended_during_its_decay(tmp_path, fresh, tiny, token_rows):
    path, state = tmp_path / "checkpoint.safetensors", fresh()
    pretrain_steps(state, token_rows, tiny, save=lambda: state.save(path, tiny))
    with pytest.raises(TrainingError, match="steps=12, decay_steps=4"):
        fresh().load(path, tiny.model_copy(update={"steps": 16}))


def test_a_checkpoint_is_safetensors_with_the_optimizers_state(stopped):
    from safetensors import safe_open

    with safe_open(str(stopped), "pt") as file:
        names = set(file.keys())
    assert "momentum|model.layers.0.mlp.up_proj.weight" in names
    assert {"exp_avg|model.embed_tokens.weight", "exp_avg_sq|model.norm.weight"} <= names
    assert "momentum|model.embed_tokens.weight" not in names


def test_muon_updates_linear_layers_and_adamw_the_rest(fresh):
    state = fresh()
    muon, adamw = state.optimizers
    assert isinstance(muon, Muon)
    names = {id(parameter): name for name, parameter in state.model.named_parameters()}
    by_muon = {names[id(each)] for group in muon.param_groups for each in group["params"]}
    by_adamw = {names[id(each)] for group in adamw.param_groups for each in group["params"]}
    assert by_muon | by_adamw == set(names.values())
    assert not by_muon & by_adamw
    assert all("proj" in name for name in by_muon)
    assert {name.rsplit(".", 2)[-2] for name in by_adamw} == {
        "embed_tokens",
        "input_layernorm",
        "post_attention_layernorm",
        "norm",
    }
    assert state.model.lm_head.weight is state.model.model.embed_tokens.weight
