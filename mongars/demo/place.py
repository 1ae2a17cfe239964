"""The demo's own home: its settings, its conversations and the keys of its clients (docs/decisions/005)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from mongars.demo.generator import Gold, generate
from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, read_conversations
from mongars.records import Conversation
from mongars.serving.http.auth import create_key
from mongars.settings import Settings
from mongars.workflows.ingest import Ingested, ingest
from mongars.workflows.wiring import SILENT, Progress

GENERATED = "generated"
SEED = 7
CLIENT_USERS = 4
PROBES = 64
PROBE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Filled:
    """The conversations of a home.

    `ingested` counts this run's, `without_consent` all of the source's; `probes` are user turns for the load.
    """

    ingested: Ingested
    without_consent: int
    gold: Gold | None
    probes: tuple[str, ...]


def demo_settings(settings: Settings, source: Path | None) -> Settings:
    """Return settings whose home and models are a folder for this source; only the base is shared."""
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


def fill(place: Settings, source: Path | None, limit: int, progress: Progress = SILENT) -> Filled:
    """Ingest up to `limit` conversations of the source.

    Raises InputError when the source cannot be read or has no conversation.
    """
    gold: Gold | None = None
    items: Iterator[Conversation | BadLine]
    if source is None:
        made = generate(limit, seed=SEED)
        items, gold = iter(made.conversations), made.gold
    else:
        items = islice(read_conversations(source), limit)
    seen = _Seen()
    ingested = ingest(place, [(str(source or GENERATED), seen.watch(items))], progress)
    if not seen.probes:
        raise InputError(f"{source} has no conversation.", remedy="See README.md for the form of a line.")
    return Filled(ingested, seen.without_consent, gold, tuple(dict.fromkeys(seen.probes))[:PROBES])


@dataclass(slots=True)
class _Seen:
    """What the demo needs to know of the conversations that pass by."""

    without_consent: int = 0
    probes: list[str] = field(default_factory=list)

    def watch(self, items: Iterable[Conversation | BadLine]) -> Iterator[Conversation | BadLine]:
        for item in items:
            if isinstance(item, Conversation):
                self.without_consent += not item.consent
                self.probes += [turn.content[:PROBE_CHARACTERS] for turn in item.turns[:1] if turn.content.strip()]
            yield item


def make_keys(place: Settings) -> tuple[str, ...]:
    """Return new keys of users without consent: a second run must find the same conversations to train on."""
    place.keys_file.unlink(missing_ok=True)
    return tuple(create_key(place.keys_file, f"client-{number}") for number in range(CLIENT_USERS))
