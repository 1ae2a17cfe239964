import pytest
import torch

from mongars.pretraining.loop import pretrain_steps
from mongars.pretraining.objective import NextTokenLoss, computes_in_bf16, matmul_precision


@pytest.fixture
def batch(token_rows) -> torch.Tensor:
    return torch.from_numpy(token_rows).long()  # 40 rows of 16: more positions than are computed at once


def test_the_loss_and_its_gradients_are_those_of_the_model_itself(fresh, batch):
    ours, theirs = fresh().model, fresh().model
    loss = NextTokenLoss(ours, "fp32")(batch)
    loss.backward()
    expected = theirs(input_ids=batch, labels=batch).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_in_bf16_it_is_close_and_its_weights_stay_in_fp32(fresh, batch):
    exact, state = NextTokenLoss(fresh().model, "fp32")(batch), fresh()
    loss = NextTokenLoss(state.model, "bf16")(batch)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    assert loss.item() != exact.item()
    assert {each.dtype for each in state.model.parameters()} == {torch.float32}
    assert {each.grad.dtype for each in state.model.parameters()} == {torch.float32}


def test_a_run_in_bf16_learns_and_goes_on_as_if_it_had_not_stopped(fresh, tiny, token_rows, tmp_path):
    config = tiny.model_copy(update={"precision": "bf16"})
    whole, stopped, resumed = fresh(), fresh(), fresh()
    kept = tmp_path / "checkpoint.safetensors"
    pretrain_steps(whole, token_rows, config)
    with pytest.raises(InterruptedError):
        pretrain_steps(stopped, token_rows, config, keep=lambda: _stop_after(stopped, kept, config))
    resumed.load(kept, config)
    pretrain_steps(resumed, token_rows, config)
    assert whole.curve[-1].loss < whole.curve[0].loss
    assert resumed.curve == whole.curve
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def _stop_after(state, kept, config):
    state.save(kept, config)
    raise InterruptedError


@pytest.mark.parametrize(
    ("precision", "device", "bf16"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("fp32", "cuda", False), ("bf16", "cpu", True)],
)
def test_bf16_is_for_gpus_unless_it_is_asked_for(precision, device, bf16):
    assert computes_in_bf16(precision, torch.device(device)) is bf16


def test_the_precision_of_the_process_is_as_before_afterwards():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), matmul_precision(bf16=True):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
