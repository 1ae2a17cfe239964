"""The demo's own home and its conversations."""

import json
from pathlib import Path

import pytest

from mongars.demo.place import demo_settings, fill, make_keys
from mongars.errors import InputError
from mongars.serving.http.auth import KeyRing
from mongars.settings import Settings
from mongars.workflows.ingest import Ingested

LINE = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var", models_dir=tmp_path / "models").resolved()


def test_each_source_has_its_own_home_below_the_operators(settings: Settings) -> None:
    generated = demo_settings(settings, None)
    other = demo_settings(settings, Path("data/chats.jsonl.gz"))
    assert generated.home == settings.home / "demo" / "generated"
    assert other.home == settings.home / "demo" / "chats"
    for place in (generated, other):
        for where in (place.database, place.index, place.tracking, str(place.keys_file), str(place.models_dir)):
            assert str(place.home) in where
        assert place.base_model == settings.base_model


def test_generated_conversations_are_saved_once(settings: Settings) -> None:
    place = demo_settings(settings, None)
    assert fill(place, None, 60).ingested.new == 60
    again = fill(place, None, 60)
    assert (again.ingested.new, again.ingested.known, again.without_consent) == (0, 60, 2)
    assert again.gold is not None


def test_a_file_is_read_up_to_the_limit_and_bad_lines_are_counted(settings: Settings, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text("\n".join(["{broken", *(json.dumps({"id": f"c{number}", **LINE}) for number in range(5))]))
    filled = fill(demo_settings(settings, chats), chats, 4)
    assert (filled.ingested, filled.gold) == (Ingested(new=3, bad_lines=1), None)
    assert filled.probes == ("Hi",)


def test_a_file_without_a_conversation_is_refused(settings: Settings, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("{broken\n")
    with pytest.raises(InputError, match="no conversation"):
        fill(demo_settings(settings, empty), empty, 10)


def test_the_clients_keys_are_new_and_without_consent(settings: Settings) -> None:
    place = demo_settings(settings, None)
    old, new = make_keys(place), make_keys(place)
    ring = KeyRing(place.keys_file)
    assert not any(ring.authenticate(f"Bearer {key}").consent for key in new)
    assert not set(old) & set(new)
