import re
import socket

import pytest
from ray.serve import Application

from mongars.errors import ModelNotFoundError, PortInUseError, ResourceError, SettingsError
from mongars.serving import app as application
from mongars.serving.app import AppArgs, build_app, deploy_ray_service, require_free_port, require_memory
from mongars.serving.deployments.args import DEPLOYMENTS
from mongars.serving.http.auth import create_key
from mongars.settings import Settings


@pytest.fixture
def args(tmp_path, base_folder):
    return AppArgs.from_settings(Settings(home=tmp_path, base_model=str(base_folder)), llm_replicas=2)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_port_in_use_is_refused_and_the_next_one_proposed():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"PORT={port + 1}"):
            require_free_port("127.0.0.1", port)


def test_too_little_memory_is_refused_with_both_figures(args, monkeypatch):
    monkeypatch.setattr(application.psutil, "virtual_memory", type("Free", (), {"available": 2**30}))
    with pytest.raises(ResourceError, match=r"2\.\d GiB; 1\.0 GiB are free"):
        require_memory(args)


def test_a_base_counts_in_float32_unless_bfloat16_is_requested(args, monkeypatch, tmp_path):
    import torch
    from safetensors.torch import save_file

    large = tmp_path / "large"
    large.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (large / name).write_text("{}")
    half_a_gib = torch.zeros(2**19, 2**8, dtype=torch.bfloat16)  # as float32
    save_file({"model.weight": half_a_gib}, large / "model.safetensors")
    monkeypatch.setattr(application.psutil, "virtual_memory", type("Free", (), {"available": 0}))
    needed = []
    for base in (args.settings.base_model, str(large)):
        settings = args.settings.model_copy(update={"base_model": base})
        with pytest.raises(ResourceError) as refused:
            require_memory(args.model_copy(update={"settings": settings}))
        needed.append(_gib(refused))
    assert needed[1] - needed[0] == pytest.approx(2 * 0.5, abs=0.11)  # two replicas, and the message rounds
    settings = args.settings.model_copy(update={"base_model": str(large)})
    with pytest.raises(ResourceError) as refused:
        require_memory(args.model_copy(update={"settings": settings, "dtype": "bfloat16"}))
    assert needed[1] - _gib(refused) == pytest.approx(2 * 0.25, abs=0.11)


def _gib(refused):
    return float(re.search(r"about (\d+\.\d) GiB", str(refused.value)).group(1))


def test_without_keys_or_a_base_nothing_is_started(args, free_port):
    with pytest.raises(SettingsError, match="mongars keys create"):
        deploy_ray_service(args, port=free_port)
    create_key(args.settings.keys_file, "ada")
    missing = args.model_copy(update={"settings": args.settings.model_copy(update={"base_model": "/no/such"})})
    with pytest.raises(ModelNotFoundError):
        deploy_ray_service(missing, port=free_port)


def test_the_builder_binds_the_three_deployments(args):
    ingress = build_app(args)._bound_deployment
    behind = [each._bound_deployment.name for each in ingress.init_args if isinstance(each, Application)]
    assert sorted((ingress.name, *behind)) == sorted(DEPLOYMENTS)


def test_serve_builds_the_typed_arguments_from_a_yaml_mapping():
    assert build_app.__annotations__["args"] is AppArgs
