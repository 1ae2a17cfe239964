import pytest
import torch

from mongars.errors import TrainingError
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.training.config import MNTPConfig
from mongars.training.data.masking import Masker
from mongars.training.data.tokenize import TokenTable
from mongars.training.objectives.mntp import MNTPModel, MNTPObjective, collate
from mongars.training.runtime.adapter_writer import adapted_encoder


@pytest.fixture(scope="module")
def batch(base):
    masker = Masker.of(MNTPConfig(mask_share=0.5), base.tokenizer)
    return collate([masker.mask("a", [1, 20, 21, 22, 23], 0), masker.mask("b", [1, 30, 31], 0)])


@pytest.fixture(scope="module")
def model(base):
    return MNTPModel(bidirectional_encoder(base), base.model.get_output_embeddings())


def test_the_loss_equals_the_full_head_over_every_position(model, batch):
    with torch.no_grad():
        losses, _ = model(batch)
        ids, mask = batch.rows.input_ids, batch.rows.attention_mask
        states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        labels = torch.full_like(ids, -100)
        real = torch.full((int(mask.sum()),), -100)
        real[batch.indices] = batch.labels
        labels[mask.bool()] = real
        logits = model.head(states)[:, :-1].flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
    assert float(losses.sum()) == pytest.approx(float(expected), rel=1e-5)


def test_padding_does_not_change_the_loss(model, base):
    masker = Masker.of(MNTPConfig(mask_share=0.5), base.tokenizer)
    short, long = masker.mask("b", [1, 30, 31], 0), masker.mask("a", [1, 20, 21, 22, 23], 0)
    with torch.no_grad():
        alone, _ = model(collate([short]))
        padded, _ = model(collate([short, long]))
    assert padded[: alone.numel()].tolist() == pytest.approx(alone.tolist(), rel=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_keeps_targets_aligned_with_their_rows(base, packing):
    """The longer row comes first, which packing puts last."""
    masker = Masker.of(MNTPConfig(mask_share=0.5, hide_share=0.0, random_share=0.0), base.tokenizer)
    rows = [masker.mask("a", [1, 20, 21, 22, 23], 0), masker.mask("b", [1, 30, 31], 0)]
    batch = collate(rows, packing=packing)
    assert torch.tensor([1, 20, 21, 22, 23, 1, 30, 31])[batch.indices].tolist() == batch.labels.tolist()
    assert batch.rows.lengths == (5, 3)
    assert batch.rows.places == (8 if packing else 10)


def test_packed_rows_have_the_losses_and_gradients_of_padded_ones(base):
    config = MNTPConfig(lora_rank=4, lora_dropout=0.0, mask_share=0.5)
    masker = Masker.of(config, base.tokenizer)
    rows = [masker.mask(str(length), range(20, 20 + length), 0) for length in (9, 3, 30, 3, 17)]
    losses, gradients = [], []
    for packing in (False, True):
        torch.manual_seed(0)
        recipe = config.model_copy(update={"packing": packing})
        objective = MNTPObjective(recipe, base, TokenTable.of([]))
        model = objective.model(adapted_encoder(base, recipe, "tiny"))
        trained = [each for each in model.parameters() if each.requires_grad]
        for each in trained:
            torch.nn.init.normal_(each, std=0.1)  # otherwise B is zero, and with it the gradient of A
        found, _ = model(collate(rows, packing=packing))
        losses.append(found.detach())
        gradients.append(torch.autograd.grad(found.mean(), trained))
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=0)
    for packed, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)
    assert max(float(each.abs().max()) for each in gradients[0]) > 1e-2


def test_packing_is_refused_if_a_layer_attends_to_less_than_a_row(base):
    encoder = bidirectional_encoder(base)
    encoder.config.sliding_window = 16
    objective = MNTPObjective(MNTPConfig(max_tokens=17), base, TokenTable.of([]))
    with pytest.raises(TrainingError, match="llama has layers that see 16 tokens") as raised:
        objective.model(encoder)
    assert "packing" in raised.value.remedy
