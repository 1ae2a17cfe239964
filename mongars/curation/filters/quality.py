"""Quality rules for turns and conversations; everything that is dropped has a reason.

Rules for web pages (Gopher, FineWeb) drop most of good chat, because a good turn may be one word. So a turn is
dropped only if it is worthless or harmful, and a conversation only if the remaining turns do not form one.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mongars.curation.filters.encoding import is_broken
from mongars.curation.filters.non_prose import is_encoded, is_filler, is_links, is_markup, is_mashed
from mongars.curation.filters.prompt_injection import carries_injection
from mongars.curation.filters.repetition import ConversationHistory
from mongars.records import Role, Turn


class DropReason(StrEnum):
    """Why a turn or a conversation is dropped. The order breaks ties between equally common reasons."""

    # of a turn
    EMPTY_TURN = "empty_turn"
    TOO_LONG = "too_long"
    BROKEN_TEXT = "broken_text"
    NO_LETTERS = "no_letters"
    REPEATED_CHARACTERS = "repeated_characters"
    REPEATED_WORDS = "repeated_words"
    BOILERPLATE = "boilerplate"
    ENCODED_DATA = "encoded_data"
    MARKUP = "markup"
    LINKS = "links"
    KEYBOARD_MASHING = "keyboard_mashing"
    PROMPT_INJECTION = "prompt_injection"
    REPEATS_MEMORY = "repeats_memory"
    REPEATS_TURN = "repeats_turn"
    # of a conversation, which can also be dropped for the reason of its turns
    TOO_MANY_TURNS = "too_many_turns"
    NO_USER_TURN = "no_user_turn"
    NO_ASSISTANT_TURN = "no_assistant_turn"
    TOO_FEW_TURNS = "too_few_turns"
    BROKEN_ROLES = "broken_roles"
    OTHER_LANGUAGE = "other_language"
    ERASED = "erased"
    NO_CONSENT = "no_consent"
    PAST_RETENTION = "past_retention"
    IN_PRIOR_VERSION = "in_earlier_version"
    DUPLICATE_ID = "duplicate_id"
    EXACT_DUPLICATE = "exact_duplicate"
    NEAR_DUPLICATE = "near_duplicate"


# About 8,000 tokens: a pasted document, far longer than any turn of a dialogue.
MAX_TURN_CHARS = 32_000
# A log, not a conversation.
MAX_TURNS = 1_000
# "408-247-8880" and "2025-03-07 11:30" are answers; a longer turn without letters is not.
MAX_CHARS_WITHOUT_LETTERS = 24
# "Noooooo" is fine, a held-down key is not. Counted are runs of at least this many equal characters ...
CHARACTER_RUN = 6
# ... which together must reach this count and this share of the turn: a ruled line in a long answer is fine.
MIN_RUN_CHARS = 12
MAX_RUN_SHARE = 0.3
# "No no no no" is fine. A phrase of up to MAX_PHRASE_WORDS counts if its repetitions reach this many words and
# this share of the turn.
MAX_PHRASE_WORDS = 8
MIN_REPEATED_WORDS = 10
MAX_REPEATED_SHARE = 0.5
# One of the user, one of the assistant.
MIN_TURNS = 2
# People send several messages in a row. More than this without an answer is a broadcast, or half a conversation.
MAX_SAME_ROLE = 8
# With more turns dropped, the rest is no longer coherent.
MAX_DROPPED_SHARE = 0.5

_RUN = re.compile(rf"([^\s])\1{{{CHARACTER_RUN - 1},}}")
_BOILERPLATE = re.compile(
    r"(?:enable|requires?) javascript|(?:we|this (?:web)?site) uses? cookies|all rights reserved"
    r"|click here to (?:unsubscribe|subscribe)|\b404 not found\b|\[(?:deleted|removed)\]|^test(?:ing)?(?: \d+)*$"
    r"|\bas an ai language model\b|\b(?:store|use of|accept) (?:our )?cookies\b|\bour cookie policy\b"
    r"|\bsubscribe to our newsletter\b|\bunsubscribe \||\bview in browser\b|\bskip to main content\b"
    r"|\(opens in new window\)",
    re.IGNORECASE,
)
# Every pattern needs one of these, and searching for them first is much faster.
_BOILERPLATE_CUES = (
    *("javascript", "cookie", "all rights reserved", "subscribe", "404 not found", "deleted]", "removed]", "test"),
    *("ai language model", "view in browser", "skip to main content", "opens in new window"),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The turns that are kept, or why the whole conversation is dropped; `dropped` counts turns by reason."""

    turns: tuple[Turn, ...]
    reason: DropReason | None
    dropped: dict[DropReason, int] = field(default_factory=dict)


def judge(turns: Sequence[Turn]) -> Judgement:
    """Judge every turn, then the conversation of the remaining turns.

    If too few turns remain, the conversation's reason is the commonest reason of its turns.
    """
    if len(turns) > MAX_TURNS:
        return Judgement((), DropReason.TOO_MANY_TURNS)
    reasons = _judge_turns(turns)
    dropped = Counter(reason for reason in reasons if reason)
    left = tuple(turn for turn, reason in zip(turns, reasons, strict=True) if not reason)
    broken = _judge_roles(left)
    if dropped and (broken or dropped.total() > MAX_DROPPED_SHARE * len(turns)):
        order = list(DropReason)
        cause = min(dropped, key=lambda reason: (-dropped[reason], order.index(reason)))
        return Judgement((), cause, dict(dropped))
    return Judgement(() if broken else left, broken, dict(dropped))


def judge_turn(text: str, role: Role = "user") -> DropReason | None:
    """Return why a turn, taken alone, is worthless or harmful; None for a good one."""
    stripped = text.strip()
    for reason, fails in _CHECKS:
        if fails(stripped):
            return reason
    return DropReason.PROMPT_INJECTION if carries_injection(stripped, role) else None


def _judge_turns(turns: Sequence[Turn]) -> list[DropReason | None]:
    """Judge each turn on its own and by the turns before it.

    Answers to an attack are dropped with it: they may be what the attacker wanted, and make no sense without it.
    """
    reasons: list[DropReason | None] = []
    history, attacked = ConversationHistory(), False
    for turn in turns:
        reason = judge_turn(turn.content, turn.role)
        if turn.role == "user":
            attacked = reason == DropReason.PROMPT_INJECTION
        if turn.role == "assistant" and not reason:
            reason = DropReason.PROMPT_INJECTION if attacked else _copy_reason(history, turn.content)
        if reason != DropReason.TOO_LONG:
            history.add(turn)
        reasons.append(reason)
    return reasons


def _copy_reason(history: ConversationHistory, text: str) -> DropReason | None:
    match history.source_of(text):
        case "memory":
            return DropReason.REPEATS_MEMORY
        case "turn":
            return DropReason.REPEATS_TURN
    return None


def _judge_roles(turns: Sequence[Turn]) -> DropReason | None:
    spoken = [turn.role for turn in turns if turn.role != "system"]
    if "user" not in spoken:
        return DropReason.NO_USER_TURN if spoken else DropReason.TOO_FEW_TURNS
    if "assistant" not in spoken:
        return DropReason.NO_ASSISTANT_TURN
    if len(spoken) < MIN_TURNS:
        return DropReason.TOO_FEW_TURNS
    run = longest = 1
    for before, role in itertools.pairwise(spoken):
        run = run + 1 if role == before else 1
        longest = max(longest, run)
    return DropReason.BROKEN_ROLES if longest > MAX_SAME_ROLE else None


def _is_empty(text: str) -> bool:
    if text[:1].isalnum():
        return False
    return not any(char.isprintable() and not char.isspace() for char in text[:1_000])


def _lacks_letters(text: str) -> bool:
    return len(text) > MAX_CHARS_WITHOUT_LETTERS and not any(map(str.isalpha, text))


def _repeats_characters(text: str) -> bool:
    if len(text) < MIN_RUN_CHARS:
        return False
    in_runs = sum(len(match.group()) for match in _RUN.finditer(text))
    return in_runs >= MIN_RUN_CHARS and in_runs > MAX_RUN_SHARE * len(text)


def _repeats_words(text: str) -> bool:
    """Report whether most words equal the word one phrase earlier."""
    words = text.casefold().split()
    # Cheap test first: enough repetition leaves few distinct words.
    if len(words) < MIN_REPEATED_WORDS or len(set(words)) >= (1 - MAX_REPEATED_SHARE) * len(words):
        return False
    for phrase in range(1, MAX_PHRASE_WORDS + 1):
        repeated = sum(word == before for word, before in zip(words[phrase:], words, strict=False))
        if repeated >= MIN_REPEATED_WORDS - phrase and repeated > MAX_REPEATED_SHARE * len(words):
            return True
    return False


def _is_boilerplate(text: str) -> bool:
    lower = text.lower()
    return any(map(lower.__contains__, _BOILERPLATE_CUES)) and _BOILERPLATE.search(text) is not None


# In this order: the first check that fails gives the reason, so later ones never see an overlong turn.
_CHECKS: tuple[tuple[DropReason, Callable[[str], bool]], ...] = (
    (DropReason.EMPTY_TURN, _is_empty),
    (DropReason.TOO_LONG, lambda text: len(text) > MAX_TURN_CHARS),
    (DropReason.BROKEN_TEXT, is_broken),
    (DropReason.NO_LETTERS, _lacks_letters),
    (DropReason.REPEATED_CHARACTERS, _repeats_characters),
    (DropReason.REPEATED_WORDS, _repeats_words),
    (DropReason.BOILERPLATE, _is_boilerplate),
    (DropReason.BOILERPLATE, is_filler),
    (DropReason.ENCODED_DATA, is_encoded),
    (DropReason.MARKUP, is_markup),
    (DropReason.LINKS, is_links),
    (DropReason.KEYBOARD_MASHING, is_mashed),
)
