"""Turns the text of public data sets back into text as people write it: spaces, quotes, marks of transcription.

Owns rules about strings and nothing else. Must not know files, data sets or models.
"""

import re
from collections.abc import Iterable, Iterator

# wikitext writes 1 @,@ 000, 0 @.@ 7 and north @-@ west, so that a tokenizer that splits at spaces keeps the parts.
_JOINED = re.compile(r" @([-.,])@ ")
_CLOSING = re.compile(r" ([.,;:!?%)\]°]+)(?=[\s\"'-]|$)")
_OPENING = re.compile(r"(?<![^\s\"'])([(\[$£¥€#]) ")
_CONTRACTION = re.compile(r"(?<=\w) ('(?:s|re|m|ll|ve|d|t)\b)", re.IGNORECASE)
_GENITIVE = re.compile(r"(?<=s) '(?= |$)")
_SLASH = re.compile(r"(?<=\w) / (?=\w)")
_HYPHEN = re.compile(r"(?<=\w) - (?=\w)")
_O_CLOCK = re.compile(r"\bo ' clock\b")
# {vocalsound}, {disfmarker}, {pause}, ... and "@ @", words nobody understood, are the ICSI corpus's; [Laughter.]
# and the like are the parliaments' records'. A bracket around other words is part of what was said.
_TRANSCRIPTION = re.compile(r"\{\w+\}|(?<!\S)@(?!\S)|\[[A-Z][a-z]+\.\]")
# {disfmarker} is where a speaker breaks off; a word taken up again after it was meant once.
_TAKEN_UP_AGAIN = re.compile(r"\b(\w+)(?: \{disfmarker\} \1\b)+", re.IGNORECASE)
_REPEATED_MARK = re.compile(r"(?<!\S)([,.?!])(?: [,.?!])+(?!\S)")
_FIRST_MARKS = re.compile(r"^[\s,.;:?!]+")
_CALCULATION = re.compile(r"<<[^>]*>>")
_FINAL_ANSWER = re.compile(r"^#### *(.+?)\.? *$", re.MULTILINE)
_SENTENCE_ENDS = frozenset(".!?")


def untokenise(text: str) -> str:
    """Return text whose words and punctuation stood apart as it is written: `a , b` becomes `a, b`, on one line.

    A straight quote does not say which way it faces: they open and close by turns. Of an odd number none can be
    placed, and all are left out; an apostrophe alone after an s is then taken as a genitive first.
    """
    text = _O_CLOCK.sub("o'clock", " ".join(_JOINED.sub(r"\1", text).split()))
    text = _paired(_CONTRACTION.sub(r"\1", text), '"')
    if text.split().count("'") % 2:
        text = _GENITIVE.sub("'", text)
    text = _OPENING.sub(r"\1", _paired(text, "'"))
    return _CLOSING.sub(r"\1", _SLASH.sub("/", text))


def spoken(text: str) -> str:
    """Return a turn of a transcribed meeting as it is written; empty when nothing was said in words."""
    text = _TRANSCRIPTION.sub(" ", _TAKEN_UP_AGAIN.sub(r"\1", " ".join(text.split())))
    text = _HYPHEN.sub("-", " ".join(text.split()))
    text = _FIRST_MARKS.sub("", untokenise(_REPEATED_MARK.sub(r"\1", text)))
    return text if any(character.isalnum() for character in text) else ""


def worked_answer(text: str) -> str:
    """Return a GSM8K answer without the calculator's `<<48/2=24>>`; its last line `#### 24` becomes a sentence."""
    return _FINAL_ANSWER.sub(r"The answer is \1.", _CALCULATION.sub("", text))


def tokenised_sentences(text: str) -> Iterator[str]:
    """Yield the sentences of tokenised text: one ends at a mark that stands alone, which no abbreviation's does.

    A quote mark after the end belongs to the sentence in which the quote was opened.
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
    """Yield the lines in order, joined into texts of at most so many words; a longer line is a text of its own."""
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
    """Yield a line in parts of at most so many words, cut where sentences end; a longer sentence stays whole."""
    for part in groups_of_lines(re.split(r"(?<=[.!?]) ", line), words):
        yield part.replace("\n", " ")


def _paired(text: str, quote: str) -> str:
    words = text.split()
    if words.count(quote) % 2:
        return " ".join(word for word in words if word != quote)
    written: list[str] = []
    waiting = ""  # an opened quote that its first word has not reached
    opened = False
    for word in words:
        if word != quote:
            written.append(waiting + word)
            waiting = ""
        elif not opened:
            waiting, opened = quote, True
        else:
            if not waiting:  # else the quote was empty
                written[-1] += quote
            waiting, opened = "", False
    return " ".join(written)
