import pytest
import torch

from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.training.config import MNTPConfig
from mongars.training.masking import Masker
from mongars.training.objectives import MNTPModel, collate


@pytest.fixture(scope="module")
def batch(base):
    masker = Masker.of(MNTPConfig(mask_share=0.5), base.tokenizer)
    return collate([masker.mask("a", [1, 20, 21, 22, 23], 0), masker.mask("b", [1, 30, 31], 0)])


@pytest.fixture(scope="module")
def model(base):
    return MNTPModel(bidirectional_encoder(base), base.model.get_output_embeddings())


def test_the_loss_is_that_of_the_equation(model, batch):
    """The full head over every position, shifted by one, against the head on the targets alone."""
    with torch.no_grad():
        losses, _ = model(batch)
        states = model.encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        labels = torch.full_like(batch.input_ids, -100)
        labels[batch.rows, batch.positions] = batch.labels
        logits = model.head(states)[:, :-1].flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
    assert float(losses.sum()) == pytest.approx(float(expected), rel=1e-5)


def test_padding_changes_no_loss(model, base):
    masker = Masker.of(MNTPConfig(mask_share=0.5), base.tokenizer)
    short, long = masker.mask("b", [1, 30, 31], 0), masker.mask("a", [1, 20, 21, 22, 23], 0)
    with torch.no_grad():
        alone, _ = model(collate([short]))
        padded, _ = model(collate([short, long]))
    assert padded[: alone.numel()].tolist() == pytest.approx(alone.tolist(), rel=1e-5)


def test_a_batch_keeps_each_target_with_its_row(batch):
    assert batch.input_ids.shape == (2, 5)
    assert batch.attention_mask.sum(dim=1).tolist() == [5, 3]
    assert batch.rows.tolist() == sorted(batch.rows.tolist())
    assert (batch.positions > 0).all()
