"""Restores natural text from the tokenised or transcribed text of public data sets: spaces, quotes, markers."""

import re
from collections.abc import Iterable, Iterator

# wikitext writes 1 @,@ 000, 0 @.@ 7 and north @-@ west for tokenizers that split at spaces.
_JOINED = re.compile(r" @([-.,])@ ")
_CLOSING = re.compile(r" ([.,;:!?%)\]°]+)(?=[\s\"'-]|$)")
_OPENING = re.compile(r"(?<![^\s\"'])([(\[$£¥€#]) ")
_CONTRACTION = re.compile(r"(?<=\w) ('(?:s|re|m|ll|ve|d|t)\b)", re.IGNORECASE)
_GENITIVE = re.compile(r"(?<=s) '(?= |$)")
_SLASH = re.compile(r"(?<=\w) / (?=\w)")
_HYPHEN = re.compile(r"(?<=\w) - (?=\w)")
_O_CLOCK = re.compile(r"\bo ' clock\b")
# The ICSI corpus has {vocalsound}, {disfmarker}, {pause}, ... and "@ @" for unintelligible words; parliamentary
# records have [Laughter.] and the like. Brackets around other words are part of the speech.
_TRANSCRIPTION = re.compile(r"\{\w+\}|(?<!\S)@(?!\S)|\[[A-Z][a-z]+\.\]")
# A speaker breaks off at {disfmarker}; a word repeated after it was meant once.
_REPEATED_WORD = re.compile(r"\b(\w+)(?: \{disfmarker\} \1\b)+", re.IGNORECASE)
_REPEATED_MARK = re.compile(r"(?<!\S)([,.?!])(?: [,.?!])+(?!\S)")
_FIRST_MARKS = re.compile(r"^[\s,.;:?!]+")
_CALCULATION = re.compile(r"<<[^>]*>>")
_FINAL_ANSWER = re.compile(r"^#### *(.+?)\.? *$", re.MULTILINE)
_SENTENCE_ENDS = frozenset(".!?")


def untokenise(text: str) -> str:
    """Return text without the spaces of tokenisation, on one line: `a , b` becomes `a, b`.

    Straight quotes have no direction, so they open and close alternately. An odd number of them cannot be paired
    and is removed; before that, a lone apostrophe after an s counts as a genitive.
    """
    text = _O_CLOCK.sub("o'clock", " ".join(_JOINED.sub(r"\1", text).split()))
    text = _paired(_CONTRACTION.sub(r"\1", text), '"')
    if text.split().count("'") % 2:
        text = _GENITIVE.sub("'", text)
    text = _OPENING.sub(r"\1", _paired(text, "'"))
    return _CLOSING.sub(r"\1", _SLASH.sub("/", text))


def spoken(text: str) -> str:
    """Return a turn of a transcribed meeting as natural text; empty if it has no words."""
    text = _TRANSCRIPTION.sub(" ", _REPEATED_WORD.sub(r"\1", " ".join(text.split())))
    text = _HYPHEN.sub("-", " ".join(text.split()))
    text = _FIRST_MARKS.sub("", untokenise(_REPEATED_MARK.sub(r"\1", text)))
    return text if any(character.isalnum() for character in text) else ""


def worked_answer(text: str) -> str:
    """Return a GSM8K answer without calculator annotations, and with `#### 24` at its end as a sentence."""
    return _FINAL_ANSWER.sub(r"The answer is \1.", _CALCULATION.sub("", text))


def tokenised_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of tokenised text, which end at a separate mark; abbreviations do not have one.

    A closing quote after the end belongs to the sentence in which the quote was opened.
    """
    sentence: list[str] = []
    ended = False
    for word in text.split():
        closes = word == '"' and sentence.count('"') % 2 == 1
        if ended and not closes:
            yield " ".join(sentence)
            sentence = []
        sentence.append(word)
        ended = word in _SENTENCE_ENDS or (ended and closes)
    if sentence:
        yield " ".join(sentence)


def groups_of_lines(lines: Iterable[str], words: int) -> Iterator[str]:
    """Yield the lines in order, joined into texts of at most `words` words; a longer line is a text of its own."""
    group: list[str] = []
    count = 0
    for line in lines:
        length = len(line.split())
        if group and count + length > words:
            yield "\n".join(group)
            group, count = [], 0
        group.append(line)
        count += length
    if group:
        yield "\n".join(group)


def parts_of_line(line: str, words: int) -> Iterator[str]:
    """Yield a line in parts of at most `words` words, split between sentences; a longer sentence stays whole."""
    for part in groups_of_lines(re.split(r"(?<=[.!?]) ", line), words):
        yield part.replace("\n", " ")


def _paired(text: str, quote: str) -> str:
    words = text.split()
    if words.count(quote) % 2:
        return " ".join(word for word in words if word != quote)
    written: list[str] = []
    pending = ""  # an opening quote, to attach to the next word
    opened = False
    for word in words:
        if word != quote:
            written.append(pending + word)
            pending = ""
        elif not opened:
            pending, opened = quote, True
        else:
            if not pending:  # an empty quote is dropped
                written[-1] += quote
            pending, opened = "", False
    return " ".join(written)
