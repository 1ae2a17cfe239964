import pytest
import torch

from mongars.pretraining.loop import pretrain_steps
from mongars.pretraining.objective import NextTokenLoss, computes_in_bf16, matmul_precision


@pytest.fixture
def batch(token_rows) -> torch.Tensor:
    return torch.from_numpy(token_rows).long()  # 640 positions: more than one chunk


def test_loss_and_gradients_equal_those_of_transformers(fresh, batch):
    ours, theirs = fresh().model, fresh().model
    loss = NextTokenLoss(ours, "fp32")(batch)
    loss.backward()
    expected = theirs(input_ids=batch, labels=batch).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_bf16_gives_a_similar_loss_and_keeps_weights_in_fp32(fresh, batch):
    exact, state = NextTokenLoss(fresh().model, "fp32")(batch), fresh()
    loss = NextTokenLoss(state.model, "bf16")(batch)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    assert loss.item() != exact.item()
    assert {each.dtype for each in state.model.parameters()} == {torch.float32}
    assert {each.grad.dtype for each in state.model.parameters()} == {torch.float32}


def test_a_bf16_run_learns_and_resumes_bit_for_bit(fresh, tiny, token_rows, tmp_path):
    config = tiny.model_copy(update={"precision": "bf16"})
    whole, stopped, resumed = fresh(), fresh(), fresh()
    checkpoint = tmp_path / "checkpoint.safetensors"
    pretrain_steps(whole, token_rows, config)
    with pytest.raises(InterruptedError):
        pretrain_steps(stopped, token_rows, config, save=lambda: _save_and_stop(stopped, checkpoint, config))
    resumed.load(checkpoint, config)
    pretrain_steps(resumed, token_rows, config)
    assert whole.curve[-1].loss < whole.curve[0].loss
    assert resumed.curve == whole.curve
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def _save_and_stop(state, checkpoint, config):
    state.save(checkpoint, config)
    raise InterruptedError


@pytest.mark.parametrize(
    ("precision", "device", "bf16"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("fp32", "cuda", False), ("bf16", "cpu", True)],
)
def test_auto_is_bf16_on_a_gpu_only(precision, device, bf16):
    assert computes_in_bf16(precision, torch.device(device)) is bf16


def test_the_process_wide_precision_is_restored():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), matmul_precision(bf16=True):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
