"""Strict check of a serve YAML, without starting anything.

Ray Serve ignores an unknown key, and checks the names of deployments only when it deploys.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, ServeDeploySchema

from mongars.errors import SettingsError
from mongars.serving.deployments.args import DEPLOYMENTS, AppArgs

IMPORT_PATH = "mongars.serving.app:build_app"
# Fields that Ray declares as plain dicts although they have fixed keys.
HIDDEN = {(DeploymentSchema, "autoscaling_config"): AutoscalingConfig}


def strict_config(path: Path) -> ServeDeploySchema:
    """Return the config in `path`.

    Raises SettingsError for a file that is no YAML mapping, an unknown key (by its path, with the nearest known
    name), an invalid value in Ray's part or in our `args`, or an unknown deployment.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(config, dict):
        raise SettingsError(f"{path} is no mapping.", remedy="See serve_configs/local.yaml.")
    for problem in _unknown(ServeDeploySchema, config, ""):
        raise SettingsError(f"{path}: {problem}")
    try:
        schema = ServeDeploySchema.model_validate(config)
        ours = [application for application in schema.applications if application.import_path == IMPORT_PATH]
        for application in ours:
            AppArgs.model_validate(application.args)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {place}: {first['msg']}.") from None
    for name in (deployment.name for application in ours for deployment in application.deployments):
        if name not in DEPLOYMENTS:
            raise SettingsError(f"{path}: unknown deployment {name}. {_hint(name, DEPLOYMENTS)}")
    return schema


def _unknown(model: type[BaseModel], given: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield the unknown keys of a mapping and of those below it, as messages."""
    for key, value in given.items():
        here = f"{place}{key}"
        if key not in model.model_fields:
            yield f"unknown key {here}. {_hint(str(key), model.model_fields)}"
            continue
        inner = HIDDEN.get((model, key)) or _model_in(model.model_fields[key].annotation)
        if inner is None:
            continue
        for index, element in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(element, dict):
                yield from _unknown(inner, element, f"{here}[{index}]." if isinstance(value, list) else f"{here}.")


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(known))}."


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as list[Model] | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
