"""A tiny base and adapters that change what it says: random weights from a seed, on disk as real ones are."""

import json
import os
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

# A test asserts nothing about time, and a busy machine is no defect of the code.
settings.register_profile("mongars", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mongars")

# torch, peft, transformers and moto are imported in the fixtures: most packages' tests do not need them.


def pytest_collection_modifyitems(items):
    """Start the longest fixture first: at the end, the second process would wait for it with nothing to do."""
    items.sort(key=lambda item: item.path.name != "test_workers.py")


BASE_DIGEST = "b" * 64


@pytest.fixture(scope="session")
def write_adapter():
    """Return write_adapter(folder, seed, **card) -> folder: the smallest valid LoRA, its weights by the seed.

    It needs neither torch nor a base. Its card names the base digest "bbbb...", and `card` overrides its fields.
    It fits a base with a 4 x 4 matrix `layers.0.self_attn.q_proj`.
    """
    import numpy as np
    from safetensors.numpy import save_file

    def write(folder, seed, **card):
        folder.mkdir(parents=True)
        random = np.random.default_rng(seed)
        inner = "model." if card.get("kind") == "chat" else ""
        module = f"base_model.model.{inner}layers.0.self_attn.q_proj"
        tensors = {
            f"{module}.lora_A.weight": random.normal(size=(2, 4)).astype(np.float32),
            f"{module}.lora_B.weight": random.normal(size=(4, 2)).astype(np.float32),
        }
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        fields = {
            "schema": 1,
            "kind": "encoder",
            "objective": "mntp",
            "base": "nano",
            "base_digest": BASE_DIGEST,
            "dataset": {"name": "dialogues", "version": "v1", "digest": "d" * 64},
            "recipe": {"steps": 3},
            "recipe_digest": "e" * 64,
            "seed": seed,
            "metrics": {"loss": 1.5},
            **card,
        }
        (folder / "card.json").write_text(json.dumps(fields))
        return folder

    return write


@pytest.fixture(scope="session")
def s3_environment():
    """Return the environment of one who may use the real S3 server, in memory, of this session."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "no secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    server.stop()


@pytest.fixture
def s3(s3_environment, monkeypatch):
    """Set that environment and return the endpoint."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return s3_environment["AWS_ENDPOINT_URL"]


@pytest.fixture
def bucket(s3):
    """Return the URL of a prefix in an empty bucket of its own."""
    import uuid

    import httpx

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    httpx.put(f"{s3}/{name}").raise_for_status()
    return f"s3://{name}/encoders"


@pytest.fixture(scope="session")
def keep():
    """Return keep(store, request) -> the adapter that the store has admitted."""

    def keep(store, request):
        with store.admit(request) as ref:
            return ref

    return keep


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory):
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    from mongars.pretraining.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(["hello there, how are you today?"] * 4, vocab_size=300, max_tokens=512)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,  # far apart logits, so that greedy choices differ between versions
    )
    torch.manual_seed(7)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(base_folder):
    from mongars.lm.base import load_base

    return load_base(base_folder)


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory, base):
    """Return make_adapter(seed, kind) -> SimpleNamespace(ref, folder): a LoRA far from zero, with its card."""
    import torch
    from peft import LoraConfig, get_peft_model

    from mongars.lm.adapters import clone_sharing_tensors
    from mongars.records import AdapterRef, now
    from mongars.storage.digests import canonical_json, folder_digest

    def make(seed, kind="encoder"):
        inner = kind == "encoder"
        tree = clone_sharing_tensors(base.model)
        torch.manual_seed(seed)
        lora = LoraConfig(
            r=2,
            lora_alpha=4,
            target_modules=["q_proj", "v_proj", "o_proj"],
            init_lora_weights=False,
            task_type=None if inner else "CAUSAL_LM",
        )
        adapted = get_peft_model(tree.model if inner else tree, lora)
        folder = tmp_path_factory.mktemp(f"adapter-{seed}")
        adapted.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        card = {
            "schema": 1,
            "kind": kind,
            "objective": "none: random weights",
            "base": "tiny",
            "base_digest": base.digest,
            "dataset": None,
            "recipe": {},
            "recipe_digest": "0" * 64,
            "seed": seed,
            "metrics": {},
        }
        (folder / "card.json").write_bytes(canonical_json(card))
        ref = AdapterRef(f"tiny-{seed}", folder_digest(folder), kind, "active", base.digest, None, now())
        return SimpleNamespace(ref=ref, folder=folder)

    return make


@pytest.fixture(scope="session")
def offline_vectors(base):
    """Return offline_vectors(folder | None, texts) -> float32 [n, d], made without the engine."""
    from mongars.lm.adapters import attach_adapter
    from mongars.neurons.bidirectional import bidirectional_encoder
    from mongars.neurons.neurons import Neurons

    def encode(folder, texts):
        encoder = bidirectional_encoder(base)
        if folder is not None:
            encoder = attach_adapter(encoder, folder)
        return Neurons(encoder, base.tokenizer).encode(texts)[0]

    return encode


@pytest.fixture
def mongars(tmp_path, monkeypatch):
    """Return mongars(*arguments, **variables) -> Result, which runs a command in this process, in an empty home.

    An exception that is not an error of ours fails the test.
    """
    from typer.testing import CliRunner

    from mongars.cli.main import app

    for name in [name for name in os.environ if name.startswith("MONGARS_")]:
        monkeypatch.delenv(name)
    places = {"MONGARS_HOME": str(tmp_path / "var"), "MONGARS_MODELS_DIR": str(tmp_path / "models")}
    runner = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "120"} | places)

    def run(*arguments, **variables):
        return runner.invoke(app, list(arguments), env=variables, catch_exceptions=False)

    return run
