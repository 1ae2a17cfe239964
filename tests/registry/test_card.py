"""The one definition of card.json: its bytes, its optional fields and its refusals."""

import json
from pathlib import Path

import pytest

from mongars.errors import AdapterRefusedError
from mongars.registry.card import AdapterCard, CardDataset, read_card, write_card

CARD = AdapterCard(
    schema=1,
    kind="encoder",
    objective="mntp",
    base="nano",
    base_digest="b" * 64,
    dataset=CardDataset(name="chats", version="v1", digest="d" * 64),
    recipe={"seed": 0, "min_workers": None, "learning_rate": 0.001},
    recipe_digest="e" * 64,
    seed=0,
    metrics={"loss_last": 2.5},
)
TEMPLATE = """{
  "base": "nano",
  "base_digest": "<b>",
  "dataset": {
    "digest": "<d>",
    "name": "chats",
    "version": "v1"
  },
  "kind": "encoder",
  "metrics": {
    "loss_last": 2.5
  },
  "objective": "mntp",
  "recipe": {
    "learning_rate": 0.001,
    "min_workers": null,
    "seed": 0
  },
  "recipe_digest": "<e>",
  "schema": 1,
  "seed": 0
}
"""
TEXT = TEMPLATE.replace("<b>", "b" * 64).replace("<d>", "d" * 64).replace("<e>", "e" * 64)


def test_a_card_is_written_as_these_bytes_and_read_back(tmp_path: Path) -> None:
    write_card(tmp_path, CARD)
    assert (tmp_path / "card.json").read_text(encoding="utf-8") == TEXT
    assert read_card(tmp_path) == CARD


def test_optional_fields_are_written_only_when_set_and_required_ones_as_null(tmp_path: Path) -> None:
    changes = {"dataset": None, "seed": None, "init_from": "c" * 64, "world_sizes": [(1, 2), (4, 1)]}
    write_card(tmp_path, CARD.model_copy(update=changes))
    written = json.loads((tmp_path / "card.json").read_bytes())
    assert (written["dataset"], written["seed"]) == (None, None)
    assert (written["init_from"], written["worlds"]) == ("c" * 64, [[1, 2], [4, 1]])
    assert not {"run_id", "resumed_from", "world_sizes"} & set(written)
    assert read_card(tmp_path).world_sizes == [(1, 2), (4, 1)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world_sizes": [[1, 2]]}, "world_sizes"),
        ({"metrics": {"loss": "low"}}, "metrics.loss"),
        ({"schema": 2}, "schema"),
    ],
)
def test_a_card_of_another_form_is_refused_by_the_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    (tmp_path / "card.json").write_text(json.dumps(json.loads(TEXT) | change))
    with pytest.raises(AdapterRefusedError, match=message):
        read_card(tmp_path)
