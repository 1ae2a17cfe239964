from pathlib import Path

import pytest
import yaml

from mongars.errors import SettingsError
from mongars.serving.strict_config import strict_config

CONFIGS = sorted((Path(__file__).parents[2] / "serve_configs").glob("*.yaml"))


def config(**changes):
    deployment = {
        "name": "LLMServeDeployment",
        "ray_actor_options": {"num_cpus": 1},
        **changes.get("deployment", {}),
    }
    application = {
        "name": "mongars",
        "import_path": "mongars.serving.app:build_app",
        "args": changes.get("args", {}),
        "deployments": [deployment],
    }
    return {"applications": [application], **changes.get("top", {})}


@pytest.fixture
def check(tmp_path):
    def check(content):
        path = tmp_path / "serve.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return strict_config(path)

    return check


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_of_the_project_is_accepted(path):
    assert strict_config(path).applications[0].import_path == "mongars.serving.app:build_app"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deployment": {"num_replica": 2}}, r"deployments\[0\]\.num_replica.*num_replicas\?"),
        ({"deployment": {"ray_actor_options": {"num_cpu": 1}}}, r"ray_actor_options\.num_cpu.*num_cpus\?"),
        (
            {"deployment": {"autoscaling_config": {"min_replica": 1}}},
            r"autoscaling_config\.min_replica.*min_replicas\?",
        ),
        ({"top": {"http_options": {"prot": 1}}}, r"http_options\.prot.*port\?"),
        ({"top": {"aplications": []}}, r"aplications.*applications\?"),
        ({"args": {"llm_replica": 2}}, r"llm_replica"),
        ({"args": {"settings": {"hom": "x"}}}, r"hom"),
        ({"args": {"llm_replicas": 0}}, r"llm_replicas.*greater"),
        ({"args": {"dtype": "bf16"}}, r"dtype.*'bfloat16'"),
        ({"deployment": {"name": "CortexDeployment"}}, r"unknown deployment CortexDeployment.*MemoryDeployment\?"),
        (
            {"deployment": {"name": "x"}},
            r"unknown deployment x\. Known: Ingress, LLMServe.*, Memory",
        ),
    ],
)
def test_an_unknown_key_or_invalid_value_is_refused_by_its_path(check, changes, message):
    with pytest.raises(SettingsError, match=message):
        check(config(**changes))


def test_settings_in_the_args_override_the_environment(check, monkeypatch):
    from mongars.serving.deployments.args import AppArgs

    monkeypatch.setenv("MONGARS_RAY_NAMESPACE", "elsewhere")
    args = AppArgs.model_validate(check(config(args={"settings": {"home": "/tmp/h"}})).applications[0].args)
    assert (str(args.settings.home), args.settings.ray_namespace) == ("/tmp/h", "elsewhere")


@pytest.mark.parametrize("content", ["a: [", "- a", ""])
def test_a_file_that_is_no_yaml_mapping_is_refused(check, content):
    with pytest.raises(SettingsError):
        check(content)
