"""An imported adapter of peft gives bit-identical outputs; unsupported features are refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from mongars.errors import AdapterRefusedError
from mongars.lm.adapters import attach_adapter, clone_sharing_tensors
from mongars.neurons.bidirectional import bidirectional_encoder
from mongars.registry import AdapterStore, BaseSpec, PublishRequest
from mongars.registry.importing import import_adapter
from mongars.storage.digests import folder_digest

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
IDS = torch.arange(12).unsqueeze(0)


@pytest.fixture(scope="module")
def elsewhere(base, tmp_path_factory):
    """Return elsewhere(layout, dtype, **options) -> folder: a LoRA as peft saves it, with its README.md."""

    def make(layout: str, dtype: torch.dtype = torch.float32, **options: object) -> Path:
        tree = clone_sharing_tensors(base.model)
        torch.manual_seed(5)
        lora = LoraConfig(
            **{"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}
            | options
        )
        adapted = get_peft_model(tree.model if layout == "inner" else tree, lora)
        folder = tmp_path_factory.mktemp(layout)
        adapted.save_pretrained(folder)
        tensors = load_file(folder / WEIGHTS)
        save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / WEIGHTS)
        assert (folder / "README.md").is_file()
        return folder

    return make


@pytest.fixture
def bring(base, tmp_path: Path):
    """Return bring(folder, kind) -> the imported folder."""

    def call(folder: Path, kind: str, name: str = "ours") -> Path:
        import_adapter(folder, tmp_path / name, kind, BaseSpec.of(base.path), base_name="tiny")
        return tmp_path / name

    return call


def states(base, adapted_by) -> torch.Tensor:
    with torch.inference_mode():
        return adapted_by(bidirectional_encoder(base)).eval()(input_ids=IDS, use_cache=False).last_hidden_state


def logits(base, adapted_by) -> torch.Tensor:
    with torch.inference_mode():
        return adapted_by(clone_sharing_tensors(base.model)).eval()(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("layout", ["inner", "outer"])
@pytest.mark.parametrize(("kind", "outputs"), [("encoder", states), ("chat", logits)])
def test_an_imported_lora_gives_the_outputs_of_peft_bit_for_bit(
    base, elsewhere, bring, layout: str, kind: str, outputs
) -> None:
    theirs = elsewhere(layout)
    same = theirs if layout == ("inner" if kind == "encoder" else "outer") else elsewhere_twin(theirs, layout)
    expected = outputs(base, lambda tree: PeftModel.from_pretrained(tree, str(same)))
    assert torch.equal(outputs(base, lambda tree: attach_adapter(tree, bring(theirs, kind))), expected)
    assert not torch.equal(outputs(base, lambda tree: tree), expected)


def elsewhere_twin(folder: Path, layout: str) -> Path:
    """Return the same LoRA as peft would have saved it in the other layout."""
    twin = folder.parent / f"{folder.name}-twin"
    shutil.copytree(folder, twin)
    inner, outer = "base_model.model.layers", "base_model.model.model.layers"
    old, new = (inner, outer) if layout == "inner" else (outer, inner)
    tensors = {name.replace(old, new): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, twin / WEIGHTS)
    return twin


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_no_value_changes_and_equal_imports_have_one_digest(elsewhere, bring, dtype: torch.dtype) -> None:
    theirs = elsewhere("outer", dtype)
    ours = [bring(theirs, "encoder", name) for name in ("one", "two")]
    before, after = load_file(theirs / WEIGHTS), load_file(ours[0] / WEIGHTS)
    assert len(before) == len(after)
    for name, tensor in before.items():
        moved = after[name.replace("model.model.", "model.")]
        assert moved.dtype == dtype
        assert torch.equal(moved, tensor)
    assert folder_digest(ours[0]) == folder_digest(ours[1])


def test_the_published_form_of_llm2vec_is_imported_with_its_origin_in_the_card(
    keep, base, elsewhere, bring, tmp_path: Path
) -> None:
    theirs = elsewhere("inner", r=2)
    config = json.loads((theirs / CONFIG).read_bytes())
    config |= {  # the other options of LLM2Vec-*-mntp (peft 0.10)
        "base_model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
        "auto_mapping": {
            "base_model_class": "LlamaBiModel",
            "parent_library": "llm2vec.models.bidirectional_llama",
        },
        "task_type": None,
        "megatron_core": "megatron.core",
        "loftq_config": {},
    }
    (theirs / CONFIG).write_text(json.dumps(config))
    ours = bring(theirs, "encoder")
    store = AdapterStore(tmp_path / "encoders")
    ref = keep(store, PublishRequest(ours, "llm2vec", BaseSpec.of(base.path)))
    card = store.card(ref)
    assert (card.objective, card.base, card.dataset, card.seed) == ("imported", "tiny", None, None)
    assert card.recipe["made_for"] == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert card.recipe["imported_from"] == theirs.name
    assert json.loads((ours / CONFIG).read_bytes())["task_type"] == "FEATURE_EXTRACTION"


def test_target_modules_are_listed_where_peft_had_a_pattern_or_some_layers(base, elsewhere, bring) -> None:
    pattern = elsewhere("outer", target_modules=r"model\.layers\.\d+\.self_attn\.(q|v)_proj")
    assert json.loads((bring(pattern, "encoder", "one") / CONFIG).read_bytes())["target_modules"] == [
        "q_proj",
        "v_proj",
    ]
    part = elsewhere(
        "outer", target_modules=["q_proj"], layers_to_transform=[1]
    )  # peft's rule fails on inner ones
    ours = bring(part, "encoder", "two")
    assert json.loads((ours / CONFIG).read_bytes())["target_modules"] == ["layers.1.self_attn.q_proj"]
    attach_adapter(bidirectional_encoder(base), ours)


def test_rank_stabilised_scaling_is_kept(base, elsewhere, bring) -> None:
    theirs = elsewhere("inner", use_rslora=True)
    expected = states(base, lambda tree: PeftModel.from_pretrained(tree, str(theirs)))
    assert torch.equal(states(base, lambda tree: attach_adapter(tree, bring(theirs, "encoder"))), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora is set"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is set"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern is set"),
        ({"lora_bias": True, "fan_in_fan_out": True}, "fan_in_fan_out, lora_bias is set"),
        ({"from_a_later_peft": 1}, "from_a_later_peft is set"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's own weights"),
        ({"peft_type": "LOHA"}, "peft_type is not LORA"),
        ({"r": 8}, "not that of rank 8"),
    ],
)
def test_an_unsupported_feature_of_peft_is_refused_by_name(
    elsewhere, bring, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    theirs = elsewhere("inner")
    config = json.loads((theirs / CONFIG).read_bytes()) | change
    (theirs / CONFIG).write_text(json.dumps(config))
    with pytest.raises(AdapterRefusedError, match=message):
        bring(theirs, "encoder")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.pt"])
def test_pickled_weights_are_refused_by_name_and_never_read(elsewhere, bring, name: str) -> None:
    theirs = elsewhere("inner")
    (theirs / WEIGHTS).rename(theirs / name)
    with pytest.raises(AdapterRefusedError, match=rf"{name}, a pickle.*Ask its author for {WEIGHTS}"):
        bring(theirs, "encoder")


def test_a_lora_for_another_base_or_on_the_head_of_an_encoder_is_refused(base, elsewhere, bring) -> None:
    theirs = elsewhere("inner")
    tensors = load_file(theirs / WEIGHTS)
    first = "base_model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file(tensors | {first: torch.ones(4, 48)}, theirs / WEIGHTS)
    with pytest.raises(AdapterRefusedError, match=r"A \[4, 48\].*weight is \[32, 32\]"):
        bring(theirs, "encoder")
    head = {f"base_model.model.lm_head.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    save_file(tensors | head, theirs / WEIGHTS)
    with pytest.raises(AdapterRefusedError, match=r"no module base_model\.model\.lm_head"):
        bring(theirs, "encoder")


def test_symbolic_links_of_the_hub_cache_are_followed(elsewhere, bring, tmp_path: Path) -> None:
    theirs, linked = elsewhere("inner"), tmp_path / "snapshot"
    linked.mkdir()
    for name in (WEIGHTS, CONFIG):
        (linked / name).symlink_to(theirs / name)
    bring(linked, "encoder")
