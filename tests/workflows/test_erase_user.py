"""From a user to the datasets, adapters and runs that have their words."""

import json

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.curation.pii.pseudonyms import load_or_create_secret, subject_id
from mongars.curation.recipe import CurationRecipe
from mongars.registry import BaseSpec, PublishRequest
from mongars.registry.registry import AdapterRegistry
from mongars.settings import Settings
from mongars.workflows.erase_user import erase_user


@pytest.fixture
def place(tmp_path, write_adapter):
    """Settings of a home with versions v1, of Ana, and v2, of Ben, and an adapter trained on each."""
    settings = Settings(home=tmp_path / "var", models_dir=tmp_path / "models")
    secret = load_or_create_secret(settings.pseudonym_key_file)
    catalog = DatasetCatalog(settings.datasets_dir)
    registry = AdapterRegistry(settings.encoders_dir)
    base = BaseSpec("b" * 64, {"layers.0.self_attn.q_proj.weight": (4, 4)})
    recipe = CurationRecipe()
    for seed, user in enumerate(("ana", "ben"), start=1):
        row = {"id": user, "subject": subject_id(secret, user), "split": "train", "source": "", "language": "en"}
        messages = [{"role": "user", "content": f"I am {user}."}]
        with catalog.open_draft("chats") as draft:
            draft.append(pa.Table.from_pylist([row | {"messages": messages}], schema=ROW_SCHEMA))
            ref, _ = catalog.publish(draft, Provenance(recipe=recipe.as_json(), recipe_hash=recipe.digest()))
        card = {"name": ref.name, "version": ref.version, "digest": ref.digest}
        folder = write_adapter(tmp_path / f"adapter-{seed}", seed, dataset=card)
        registry.register(PublishRequest(folder, user, base))
    return settings


def test_adapters_trained_on_the_user_are_listed_before_and_after(place):
    for preview in (True, False, False):
        erasure = erase_user(place, "ana", preview=preview)
        assert [ref.name for ref in erasure.adapters] == ["ana"]
    assert [ref.state for ref in DatasetCatalog(place.datasets_dir).list()] == ["erased", "ready"]


def test_unfinished_runs_trained_on_the_user_are_listed(place):
    training = place.home / "training"
    training.mkdir(parents=True)
    for key, label in (("a" * 16, "chats@v1"), ("b" * 16, "chats@v2")):
        header = json.dumps({"progress": {"step": 3}, "fixed": {"steps": 9}, "label": label})
        save_file({"w": np.zeros(1)}, training / f"{key}.checkpoint.safetensors", {"run": header})
    assert erase_user(place, "ana").runs == ("a" * 16,)


def test_an_unknown_user_is_in_nothing(place):
    erasure = erase_user(place, "cleo", preview=False)
    assert (erasure.adapters, erasure.runs, erasure.datasets.versions) == ((), (), ())
