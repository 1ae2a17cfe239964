"""Generation and embedding with the CPU optimizations and without them."""

import re
from pathlib import Path

import numpy as np
import pytest

import mongars
from mongars.errors import MongarsError
from mongars.lm.adapters import attach_adapter, clone_sharing_tensors
from mongars.lm.base import Base, load_base
from mongars.lm.cpu import optimize
from mongars.lm.cpu.optimize import is_optimized
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.neurons.neurons import Neurons
from mongars.records import GenerationRequest, Sampling, Turn
from mongars.serving.generation.offline import generate_one

TEXTS = ["hello there", "how are you today, and what is new?", "a"]
ASK = GenerationRequest("req_1", (Turn("user", "hello"),), Sampling(max_tokens=24))
PRIVATE = re.compile(r"torch\.ops\.|mallopt|\.__class__ = ")


@pytest.fixture(scope="module")
def bases(base_folder: Path) -> dict[bool, Base]:
    """The base as a replica loads it where oneDNN is the faster library, by whether it is optimized."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimize, "onednn_is_faster", lambda: True)
        return {on: load_base(base_folder, packed=True, cpu_optimizations=on) for on in (True, False)}


def kinds(base: Base) -> set[str]:
    return {type(module).__module__ for module in base.model.modules()}


def test_without_optimizations_all_modules_are_of_torch_and_transformers(bases):
    assert "mongars.lm.cpu.onednn" in kinds(bases[True])
    assert {kind.partition(".")[0] for kind in kinds(bases[False])} == {"torch", "transformers"}
    mlp = bases[False].model.model.layers[0].mlp
    weights = (mlp.gate_proj.weight, mlp.up_proj.weight)
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 2


@pytest.mark.parametrize("on", [True, False])
def test_only_optimized_trees_are_cloned_by_our_own_copy(bases, on, monkeypatch):
    def refuse(*_):
        raise MongarsError("our own copy")

    monkeypatch.setattr("mongars.lm.adapters.clone_module_tree", refuse)
    for tree in (bases[on].model, bases[on].model.base_model):
        assert is_optimized(tree) is on
        if on:
            with pytest.raises(MongarsError, match="our own copy"):
                clone_sharing_tensors(tree)
        else:
            clone = clone_sharing_tensors(tree)
            assert set(map(id, clone.parameters())) == set(map(id, tree.parameters()))


@pytest.mark.parametrize("adapted", [False, True])
def test_generated_tokens_are_equal_with_and_without_optimizations(bases, make_adapter, adapted):
    texts = []
    for base in bases.values():
        model = clone_sharing_tensors(base.model)
        if adapted:
            model = attach_adapter(model, make_adapter(3, "chat").folder)
        said: list[str] = []
        reason, usage = generate_one(model, base.tokenizer, ASK, said.append)
        texts.append(("".join(said), reason, usage))
    assert texts[0] == texts[1]
    assert texts[0][2].completion_tokens > 0


@pytest.mark.parametrize("adapted", [False, True])
def test_vectors_are_equal_but_for_rounding_with_and_without_optimizations(bases, make_adapter, adapted):
    found = []
    for base in bases.values():
        encoder = bidirectional_encoder(base)
        if adapted:
            encoder = attach_adapter(encoder, make_adapter(1).folder)
        found.append(Neurons(encoder, base.tokenizer).encode(TEXTS)[0])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_an_adapter_keeps_the_mark_of_an_optimized_model(bases, make_adapter):
    for on, base in bases.items():
        assert (
            is_optimized(attach_adapter(clone_sharing_tensors(base.model), make_adapter(3, "chat").folder)) is on
        )


def test_cpu_optimizations_are_nowhere_else_in_the_package():
    package = Path(mongars.__file__).parent
    found = {
        file.relative_to(package).parts[:2]
        for file in package.rglob("*.py")
        if PRIVATE.search(file.read_text(encoding="utf-8"))
    }
    assert found == {("lm", "cpu")}
