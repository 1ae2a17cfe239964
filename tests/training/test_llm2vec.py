"""Our encoder and loss against llm2vec 0.2.3 under transformers 4.44.2.

benchmarks/peers/llm2vec_fixture.py wrote the folder `llm2vec` there: a base and an adapter as saved by llm2vec, a
batch masked by its collator, the hidden states of the real tokens and the loss.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mongars.lm.adapters import attach_adapter
from mongars.lm.base import load_base
from mongars.lm.packing import allow_packing
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.registry import BaseSpec
from mongars.registry.importing import import_adapter
from mongars.training.data.masking import MaskedRow
from mongars.training.objectives.mntp import MNTPModel, collate

MADE = Path(__file__).parent / "llm2vec"
LAYOUTS = pytest.mark.parametrize("packing", [False, True])


@pytest.fixture(scope="module")
def their_base():
    return load_base(MADE / "base")


@pytest.fixture(scope="module")
def imported(their_base, tmp_path_factory) -> Path:
    """Their adapter after `mongars adapters import`."""
    target = tmp_path_factory.mktemp("imported") / "adapter"
    import_adapter(MADE / "adapter", target, "encoder", BaseSpec.of(their_base.path), base_name="tiny")
    return target


@pytest.fixture(scope="module")
def theirs() -> dict[str, torch.Tensor]:
    return load_file(MADE / "batch.safetensors")


@pytest.fixture(scope="module")
def rows(theirs) -> list[MaskedRow]:
    """Their masked batch as our rows; their labels are -100 except at targets."""
    found = []
    for index, real in enumerate(theirs["attention_mask"].bool()):
        ids, labels = theirs["input_ids"][index][real].numpy(), theirs["labels"][index][real].numpy()
        (positions,) = (labels != -100).nonzero()
        found.append(MaskedRow(str(index), ids, positions, labels[positions], ids[positions] == 3))
    return found


@pytest.fixture
def model(their_base, imported, packing) -> MNTPModel:
    encoder = attach_adapter(bidirectional_encoder(their_base), imported)
    if packing:
        allow_packing(encoder, max_tokens=64)
    return MNTPModel(encoder, their_base.model.get_output_embeddings(), packing=packing).eval()


@LAYOUTS
@torch.no_grad()
def test_an_adapter_of_llm2vec_gives_the_same_hidden_states(model, rows, theirs, their_base, packing):
    found = collate(rows, packing=packing).rows.states(model.encoder)
    torch.testing.assert_close(found, theirs["states"], atol=1e-5, rtol=0)
    without = collate(rows).rows.states(bidirectional_encoder(their_base))
    assert (without - theirs["states"]).abs().max() > 0.1, "the adapter matters"


@LAYOUTS
@torch.no_grad()
def test_the_loss_of_a_masked_batch_equals_llm2vecs_within_1e_5(model, rows, packing):
    batch = collate(rows, packing=packing)
    losses, _ = model(batch)
    expected = json.loads((MADE / "expected.json").read_text())
    assert batch.targets > 10
    assert float(losses.sum()) / batch.targets == pytest.approx(expected["loss"], abs=1e-5)
