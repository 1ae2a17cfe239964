"""Seeded generator of conversations with known faults: personal data, junk, duplicates, missing consent.

Because the faults are planted, the report can say how many the curation found. Every personal value is invented:
phone numbers are from the ranges reserved for fiction, cards are the payment industry's published test numbers,
addresses end in `example.com` (RFC 2606).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mongars.demo.phrases import (
    CLOSERS,
    FIRST_NAMES,
    FOLLOW_UPS,
    INTENTS,
    JUNK_TURNS,
    LAST_NAMES,
    OPENERS,
    SLOTS,
)
from mongars.records import Conversation, Role, Turn

SOURCE = "generated"
START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
# Published test card numbers: they pass the Luhn check and belong to nobody.
TEST_CARDS = ("4242 4242 4242 4242", "5555 5555 5555 4444", "4000 0566 5566 5556", "3782 822463 10005")
# Example IBANs from the SWIFT registry's country pages.
TEST_IBANS = ("FR14 2004 1010 0505 0001 3M02 606", "DE89 3704 0044 0532 0130 00", "GB29 NWBK 6016 1331 9268 19")

# One conversation in this many has the fault; the others are plain.
PERSONAL_EVERY = 4
JUNK_EVERY = 12
DUPLICATE_EVERY = 15
NEAR_DUPLICATE_EVERY = 20
NO_CONSENT_EVERY = 25


@dataclass(frozen=True, slots=True)
class Gold:
    """The planted faults: personal values by type, and the ids of conversations that must not be kept."""

    personal: Mapping[str, tuple[str, ...]]
    junk: frozenset[str]
    duplicates: frozenset[str]
    no_consent: frozenset[str]


@dataclass(frozen=True, slots=True)
class Generated:
    """Conversations in order of id, and their gold labels."""

    conversations: tuple[Conversation, ...]
    gold: Gold


def generate(count: int, *, seed: int, users: int = 8) -> Generated:
    """Return `count` conversations of `users` users; the same arguments give the same conversations."""
    planter = _Planter(seed, users)
    for number in range(count):
        planter.add(number)
    return planter.generated()


def _is_one_in(every: int, number: int) -> bool:
    return number % every == every - 1


class _Planter:
    """Generates conversations and records the faults that it plants."""

    def __init__(self, seed: int, users: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311 (sample text, not a secret)
        self._names = [f"{self._rng.choice(FIRST_NAMES)} {self._rng.choice(LAST_NAMES)}" for _ in range(users)]
        self._made: list[Conversation] = []
        self._plain: list[tuple[Turn, ...]] = []
        self._personal: dict[str, list[str]] = {}
        self._junk: set[str] = set()
        self._duplicates: set[str] = set()
        self._no_consent: set[str] = set()

    def add(self, number: int) -> None:
        identity = f"conv_demo_{self._seed}_{number:06d}"
        user = number % len(self._names)
        turns = self._turns(number, identity, self._names[user])
        consent = not _is_one_in(NO_CONSENT_EVERY, number)
        if not consent:
            self._no_consent.add(identity)
        elif identity not in self._junk | self._duplicates:
            self._plain.append(turns)
        created = START + timedelta(minutes=17 * number)
        timed = (
            Turn(turn.role, turn.content, created + timedelta(seconds=20 * place))
            for place, turn in enumerate(turns)
        )
        self._made.append(
            Conversation(identity, f"user-{user}", tuple(timed), SOURCE, consent=consent, created_at=created)
        )

    def generated(self) -> Generated:
        return Generated(
            tuple(self._made),
            Gold(
                {kind: tuple(values) for kind, values in sorted(self._personal.items())},
                frozenset(self._junk),
                frozenset(self._duplicates),
                frozenset(self._no_consent),
            ),
        )

    def _turns(self, number: int, identity: str, name: str) -> tuple[Turn, ...]:
        if _is_one_in(DUPLICATE_EVERY, number):
            self._duplicates.add(identity)
            return self._rng.choice(self._plain)
        if _is_one_in(NEAR_DUPLICATE_EVERY, number):
            self._duplicates.add(identity)
            return _nearly(self._rng.choice(self._plain), self._rng)
        if _is_one_in(JUNK_EVERY, number):
            self._junk.add(identity)
            return _junk(self._rng)
        turns = _talk(self._rng)
        if _is_one_in(PERSONAL_EVERY, number):
            return _with_personal(turns, name, self._rng, self._personal)
        return turns


def _fill(template: str, slots: Mapping[str, str]) -> str:
    text = template.format_map(slots)
    return text[:1].upper() + text[1:]


def _talk(rng: random.Random) -> tuple[Turn, ...]:
    """Return a conversation with two to four intents, each with its own slot values."""
    turns: list[Turn] = []

    def say(role: Role, text: str) -> None:
        turns.append(Turn(role, text))

    opener = rng.choice(OPENERS)
    for position, intent in enumerate(rng.sample(INTENTS, rng.randint(2, 4))):
        slots = {name: rng.choice(values) for name, values in SLOTS.items()}
        ask = _fill(rng.choice(intent.asks), slots)
        say("user", f"{opener} {ask}".strip() if position == 0 else ask)
        say("assistant", _fill(rng.choice(intent.answers), slots))
        if rng.random() < 0.3:  # noqa: PLR2004 (share of intents with a follow-up)
            question, answer = rng.choice(FOLLOW_UPS)
            say("user", question)
            say("assistant", answer)
    thanks, farewell = rng.choice(CLOSERS)
    say("user", thanks)
    say("assistant", _fill(farewell, {"day": rng.choice(SLOTS["day"])}))
    return tuple(turns)


def _with_personal(
    turns: tuple[Turn, ...], name: str, rng: random.Random, planted: dict[str, list[str]]
) -> tuple[Turn, ...]:
    """Add a user turn with one or two personal values, and record them in `planted`."""
    first, last = name.split()
    makers: dict[str, Callable[[], str]] = {
        "email": lambda: f"{first.lower()}.{last.lower()}{rng.randint(1, 999)}@example.com",
        # 555-0100 to 555-0199 is reserved for fiction by the North American Numbering Plan.
        "phone": lambda: f"(514) 555-01{rng.randint(0, 99):02d}",
        "card": lambda: rng.choice(TEST_CARDS),
        "iban": lambda: rng.choice(TEST_IBANS),
        # 203.0.113.0/24 is reserved for documentation (RFC 5737).
        "ip": lambda: f"203.0.113.{rng.randint(1, 254)}",
    }
    phrases = {
        "email": "You can write to me at {value}.",
        "phone": "My number is {value}, in case the line drops.",
        "card": "Please charge the card {value}.",
        "iban": "The refund goes to {value}.",
        "ip": "The device at {value} is the one that fails.",
    }
    sentences = []
    for kind in rng.sample(sorted(makers), rng.randint(1, 2)):
        value = makers[kind]()
        planted.setdefault(kind, []).append(value)
        sentences.append(phrases[kind].format(value=value))
    at = rng.randrange(2, len(turns), 2)
    exchange = (Turn("user", " ".join(sentences)), Turn("assistant", "Thank you, I have noted that."))
    return turns[:at] + exchange + turns[at:]


def _nearly(turns: tuple[Turn, ...], rng: random.Random) -> tuple[Turn, ...]:
    """Return a near duplicate: the turns without one word of one turn."""
    longest = max(range(len(turns)), key=lambda i: len(turns[i].content))
    words = turns[longest].content.split()
    del words[rng.randrange(len(words))]
    changed = Turn(turns[longest].role, " ".join(words))
    return (*turns[:longest], changed, *turns[longest + 1 :])


def _junk(rng: random.Random) -> tuple[Turn, ...]:
    """Return an exchange whose user turn says nothing."""
    return (Turn("user", rng.choice(JUNK_TURNS)), Turn("assistant", "I did not understand that."))
