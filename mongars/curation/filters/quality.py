"""What is not worth learning from: rules for turns and for conversations, each drop with its reason.

Owns the reasons and the thresholds. Must not know files, Ray or personal data.
Rules made for web pages destroy chat (of good dialogue turns, Gopher's keep 2 % and FineWeb's 57 %), because a
good turn may be one word. So a turn goes only when it carries nothing or harm, a conversation when what is left is
none.
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
    """Why a turn or a conversation is not in the dataset. The order decides between equally common reasons."""

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
    MASHED_KEYS = "keyboard_mashing"
    PROMPT_INJECTION = "prompt_injection"
    REPEATS_MEMORY = "repeats_memory"
    REPEATS_TURN = "repeats_turn"
    # of a conversation; a reason of a turn also drops the conversation that its turns spoiled
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


# About 8,000 tokens: a pasted document, not something said. The longest turn of 27,132 public dialogues has 1,817.
MAX_TURN_CHARS = 32_000
# A log, not a conversation; the longest of those dialogues has 40 turns.
MAX_TURNS = 1_000
# "408-247-8880" and "2025-03-07 11:30" are answers; a longer line without one letter is not.
MAX_CHARS_WITHOUT_LETTERS = 24
# "Noooooo" is said, a held-down key is not: runs of at least so many equal signs ...
CHARACTER_RUN = 6
# ... together at least so many, and so much of the turn (a ruled line inside a long answer stays).
MIN_RUN_CHARS = 12
MAX_RUN_SHARE = 0.3
# "No no no no" is said. The same phrase of up to so many words again and again, for so many words and so much of
# the turn.
MAX_PHRASE_WORDS = 8
MIN_REPEATED_WORDS = 10
MAX_REPEATED_SHARE = 0.5
# A user and an assistant who each said something.
MIN_TURNS = 2
# People send several messages in a row; more than this without an answer is a broadcast or a lost half.
MAX_SAME_ROLE = 8
# More spoiled turns than this, and what is left no longer follows from what was said.
MAX_SPOILED_SHARE = 0.5

_RUN = re.compile(rf"([^\s])\1{{{CHARACTER_RUN - 1},}}")
_BOILERPLATE = re.compile(
    r"(?:enable|requires?) javascript|(?:we|this (?:web)?site) uses? cookies|all rights reserved"
    r"|click here to (?:unsubscribe|subscribe)|\b404 not found\b|\[(?:deleted|removed)\]|^test(?:ing)?(?: \d+)*$"
    r"|\bas an ai language model\b|\b(?:store|use of|accept) (?:our )?cookies\b|\bour cookie policy\b"
    r"|\bsubscribe to our newsletter\b|\bunsubscribe \||\bview in browser\b|\bskip to main content\b"
    r"|\(opens in new window\)",
    re.IGNORECASE,
)
# Each of the patterns has one of these in it: to look for them first is eight times as fast.
_BOILERPLATE_CUES = (
    *("javascript", "cookie", "all rights reserved", "subscribe", "404 not found", "deleted]", "removed]", "test"),
    *("ai language model", "view in browser", "skip to main content", "opens in new window"),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is left of a conversation: its turns, or the reason why all of it goes; and what went turn by turn."""

    turns: tuple[Turn, ...]
    reason: DropReason | None
    spoiled: dict[DropReason, int] = field(default_factory=dict)


def judge(turns: Sequence[Turn]) -> Judgement:
    """Judge every turn, then what is left of the conversation.

    Where spoiled turns leave no conversation, the commonest of their reasons is given: it is the cause.
    """
    if len(turns) > MAX_TURNS:
        return Judgement((), DropReason.TOO_MANY_TURNS)
    reasons = _judge_turns(turns)
    spoiled = Counter(reason for reason in reasons if reason)
    left = tuple(turn for turn, reason in zip(turns, reasons, strict=True) if not reason)
    broken = _judge_roles(left)
    if spoiled and (broken or spoiled.total() > MAX_SPOILED_SHARE * len(turns)):
        order = list(DropReason)
        cause = min(spoiled, key=lambda reason: (-spoiled[reason], order.index(reason)))
        return Judgement((), cause, dict(spoiled))
    return Judgement(() if broken else left, broken, dict(spoiled))


def judge_turn(text: str, role: Role = "user") -> DropReason | None:
    """Return why a turn, whatever was said before it, carries nothing or harm; None for a good one."""
    stripped = text.strip()
    for reason, fails in _CHECKS:
        if fails(stripped):
            return reason
    return DropReason.PROMPT_INJECTION if carries_injection(stripped, role) else None


def _judge_turns(turns: Sequence[Turn]) -> list[DropReason | None]:
    """Judge each turn by itself and by what stands before it.

    An attack takes what was answered to it along: the answer may be what the attacker wanted, and without the
    question it follows from nothing.
    """
    reasons: list[DropReason | None] = []
    said, attacked = ConversationHistory(), False
    for turn in turns:
        reason = judge_turn(turn.content, turn.role)
        if turn.role == "user":
            attacked = reason == DropReason.PROMPT_INJECTION
        if turn.role == "assistant" and not reason:
            reason = DropReason.PROMPT_INJECTION if attacked else _copies(said, turn.content)
        if reason != DropReason.TOO_LONG:
            said.add(turn)
        reasons.append(reason)
    return reasons


def _copies(said: ConversationHistory, text: str) -> DropReason | None:
    match said.source_of(text):
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
    """Say whether most words equal the word one phrase before."""
    words = text.casefold().split()
    # Each repeated word takes the place of one that would be another.
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


# In this order: the first that fails names the reason, and what is too long is looked at no further.
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
    (DropReason.MASHED_KEYS, is_mashed),
)
