"""One conversation at a time, from a raw line to a row: consent, quality, language, redaction.

This is the work of a Ray Data task, as a plain class over Arrow tables. Every worker process loads this module, so
it imports neither Ray nor anything heavy. Each line gets an outcome, so that nothing is lost silently.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from mongars.curation.catalog.rows import MESSAGES_TYPE, OPINIONS_TYPE, texts_of
from mongars.curation.dedup.fingerprint import fingerprint_of
from mongars.curation.dedup.minhash import Hashes, band_hashes
from mongars.curation.filters.language import UNDETERMINED, detect_language
from mongars.curation.filters.quality import DropReason, judge, judge_turn
from mongars.curation.pii import find_pii, redact
from mongars.curation.pii.leak_check import leaks
from mongars.curation.pii.person_names.tagger import load_tagger
from mongars.curation.pii.pseudonyms import Pseudonyms, subject_id
from mongars.curation.recipe import CurationRecipe
from mongars.curation.sources import Reader
from mongars.formats.jsonl import BadLine
from mongars.records import Conversation

# Outcomes of a line other than a DropReason.
KEPT, BAD = "kept", "bad"
# Rows per Arrow table: a few hundred kilobytes of chat.
BATCH_ROWS = 256

CLEAN_SCHEMA = pa.schema(
    [
        ("key", pa.int64()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("id", pa.string()),
        ("subject", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("messages", MESSAGES_TYPE),
        ("opinions", OPINIONS_TYPE),
        ("turns", pa.int32()),
        ("digest", pa.binary(32)),
        ("content", pa.binary(16)),
        ("bands", pa.list_(pa.uint32())),
        ("pii", pa.list_(pa.string())),
        ("turns_dropped", pa.list_(pa.string())),
        ("leaks", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The outcome of one line: the columns of CLEAN_SCHEMA, with `shingles` instead of the bands."""

    key: int
    outcome: str
    detail: str = ""
    id: str = ""
    subject: str = ""
    source: str = ""
    language: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    opinions: list[dict[str, Any]] = field(default_factory=list)
    turns: int = 0
    digest: bytes = bytes(32)
    content: bytes = bytes(16)
    shingles: Hashes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), compare=False)
    pii: list[str] = field(default_factory=list)
    turns_dropped: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cleaner:
    """Cleans parts of a source.

    `now` decides what is past retention. `secret` keys pseudonyms and subject ids; it is sent to the workers and
    never part of a row. Conversations of the subjects in `erased` are dropped.
    """

    recipe: CurationRecipe
    now: datetime
    secret: bytes = field(repr=False)
    erased: frozenset[str] = frozenset()

    def clean_parts(self, parts: pa.Table, read: Reader) -> Iterator[pa.Table]:
        """Yield tables of CLEAN_SCHEMA for a table of parts: one row for each line that is not blank."""
        for part in parts.to_pylist():
            yield from self.clean_items(read(part))

    def clean_items(self, items: Iterable[tuple[int, Conversation | BadLine]]) -> Iterator[pa.Table]:
        """Yield tables of CLEAN_SCHEMA, one at least, for (key, conversation or bad line)."""
        rows = list[Cleaned]()
        for key, item in items:
            rows.append(Cleaned(key, BAD, item.reason) if isinstance(item, BadLine) else self.clean(key, item))
            if len(rows) == BATCH_ROWS:
                yield as_table(rows)
                rows = []
        yield as_table(rows)

    def clean(self, key: int, conversation: Conversation) -> Cleaned:
        """Return the outcome of a conversation, with its personal data replaced."""
        subject = subject_id(self.secret, conversation.user)
        reason = DropReason.ERASED if subject in self.erased else self._refused(conversation)
        if reason:
            return Cleaned(key, reason)
        judgement = judge(conversation.turns)
        turns_dropped = [str(reason) for reason, count in judgement.dropped.items() for _ in range(count)]
        if judgement.reason:
            return Cleaned(key, judgement.reason, turns_dropped=turns_dropped)
        language = detect_language([turn.content for turn in judgement.turns], self.recipe.languages)
        if language not in (*self.recipe.languages, UNDETERMINED):
            return Cleaned(key, DropReason.OTHER_LANGUAGE, turns_dropped=turns_dropped)
        known = _known_of(conversation)
        rated = [each for each in conversation.opinions if not (judge_turn(each.query) or judge_turn(each.text))]
        texts = texts_of(
            (turn.content for turn in judgement.turns),
            (text for each in rated for text in (each.query, each.text)),
        )
        clean, pii = self._redacted(texts, subject, known)
        messages = [{"role": turn.role, "content": clean[turn.content]} for turn in judgement.turns]
        opinions = [{"query": clean[each.query], "text": clean[each.text], "good": each.good} for each in rated]
        fingerprint = fingerprint_of(conversation.id, subject, conversation.source, language, messages, opinions)
        return Cleaned(
            key=key,
            outcome=KEPT,
            id=conversation.id,
            subject=subject,
            source=conversation.source,
            language=language,
            messages=messages,
            opinions=opinions,
            turns=len(messages),
            digest=fingerprint.digest,
            content=fingerprint.content,
            shingles=fingerprint.shingles,
            pii=pii,
            turns_dropped=turns_dropped,
            leaks=sorted({leak for text in clean.values() for leak in leaks(text, known)}),
        )

    def _refused(self, conversation: Conversation) -> DropReason | None:
        """Check consent and age, before anything reads the text. An undated conversation has no age."""
        if not conversation.consent:
            return DropReason.NO_CONSENT
        days, created = self.recipe.retention_days, conversation.created_at
        if days is not None and created is not None and created < self.now - timedelta(days=days):
            return DropReason.PAST_RETENTION
        return None

    def _redacted(
        self, texts: Sequence[str], subject: str, known: Sequence[str]
    ) -> tuple[dict[str, str], list[str]]:
        """Return each text redacted, and the types of all spans that were replaced."""
        pseudonyms, found, clean = Pseudonyms(self.secret, subject), list[str](), dict[str, str]()
        find_names = load_tagger().find if self.recipe.person_names else None
        for text in texts:
            spans = find_pii(text, known, find_names)
            found += [str(span.type) for span in spans]
            clean[text] = redact(text, spans, pseudonyms)
        return clean, found


def _known_of(conversation: Conversation) -> tuple[str, ...]:
    """Return the known values of the user. A user id counts only as an e-mail address: others may be words."""
    profile, user = conversation.profile, conversation.user
    return (*profile.names, *profile.emails, *profile.phones, *([user] if "@" in user else []))


def as_table(rows: Sequence[Cleaned]) -> pa.Table:
    """Return cleaned rows as a table of CLEAN_SCHEMA."""
    kept = [row for row in rows if row.outcome == KEPT]
    bands = band_hashes([row.shingles for row in kept]).tolist()
    by_key = dict(zip((row.key for row in kept), bands, strict=True))
    columns: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in CLEAN_SCHEMA.names if name != "bands"
    }
    columns["bands"] = [by_key.get(row.key, []) for row in rows]
    return pa.table(columns, schema=CLEAN_SCHEMA)
