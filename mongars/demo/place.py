"""The demo's own home: its settings, the conversations in it, and the keys of its clients.

Owns what is put there before anything runs (docs/decisions/005). Must not know Ray.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mongars.demo.generator import Gold, generate
from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, read_conversations
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.records import Conversation
from mongars.serving.http.auth import create_key
from mongars.settings import Settings

GENERATED = "generated"
SEED = 7
CLIENT_USERS = 4
PROBES = 64
PROBE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Filled:
    """What stands in the repository now. `probes` are user turns that the load's clients send."""

    new: int
    without_consent: int
    bad_lines: tuple[BadLine, ...]
    gold: Gold | None
    probes: tuple[str, ...]


def demo_settings(settings: Settings, source: Path | None) -> Settings:
    """Return settings whose home and models lie in a folder of the source's own; only the base is shared."""
    name = re.sub(r"[^\w-]+", "-", source.name.split(".")[0]) if source else GENERATED
    home = settings.home / "demo" / name
    own = {
        "home": home,
        "models_dir": home / "models",
        "encoders_url": None,
        "llm_backend": "serve",
        "database_url": None,
        "index_uri": None,
        "mlflow_tracking_uri": None,
        "api_keys_file": None,
    }
    return settings.model_copy(update=own).resolved()


def fill(place: Settings, source: Path | None, limit: int) -> Filled:
    """Write up to `limit` conversations of the source into the repository; those that are there stay.

    Raises InputError when the source cannot be read or holds no conversation.
    """
    gold: Gold | None = None
    items: Iterator[Conversation | BadLine]
    if source is None:
        made = generate(limit, seed=SEED)
        items, gold = iter(made.conversations), made.gold
    else:
        items = islice(read_conversations(source), limit)
    repository = PersistenceRepository(place.database)
    repository.migrate()
    new = without_consent = 0
    bad: list[BadLine] = []
    probes: list[str] = []
    for item in items:
        if isinstance(item, BadLine):
            bad.append(item)
            continue
        new += repository.save_conversation(item)
        without_consent += not item.consent
        probes += [turn.content[:PROBE_CHARACTERS] for turn in item.turns[:1] if turn.content.strip()]
    if not probes:
        raise InputError(f"{source} holds no conversation.", remedy="See README.md for the form of a line.")
    return Filled(new, without_consent, tuple(bad), gold, tuple(dict.fromkeys(probes))[:PROBES])


def make_keys(place: Settings) -> tuple[str, ...]:
    """Return fresh keys of the load's users, who do not consent: a second run must find the same to train on."""
    place.keys_file.unlink(missing_ok=True)
    return tuple(create_key(place.keys_file, f"client-{number}") for number in range(CLIENT_USERS))
