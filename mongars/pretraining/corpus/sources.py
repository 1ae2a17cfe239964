"""Readers of the public data sets: each file's format, and the rules for what becomes a document.

A document is a JSON object: `{"id", "source", "messages"}` for a conversation, or `{"id", "source", "text"}`. A
file in another format raises InputError with the line number, never with its text.
"""

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from mongars.errors import InputError
from mongars.formats.jsonl import BadLine, numbered_lines, read_conversations
from mongars.pretraining.corpus.detokenize import (
    groups_of_lines,
    parts_of_line,
    spoken,
    tokenised_sentences,
    untokenise,
    worked_answer,
)
from mongars.pretraining.corpus.system_turns import with_system_turns
from mongars.records import Conversation, Turn

Document = dict[str, Any]
Reader = Callable[[Path, Random, Counter[str]], Iterator[Document]]
"""Yields the documents of a file, and counts what it leaves out by reason."""

# About 400 tokens, so that a text with its template fits a context of 512.
WORDS_OF_A_TEXT = 300
UTTERANCES_OF_A_TEXT = 10
UNKNOWN = "<unk>"  # wikitext's substitute for words outside its vocabulary
_HEADING = re.compile(r"(=(?: =)*) (.+) \1")
_UNKNOWN_ASIDE = re.compile(rf"\( [^()]*{UNKNOWN}[^()]* \) ?")
# Shorter sentences between removed ones are mostly fragments.
_MIN_WORDS = 4
_Line = TypeVar("_Line", bound=BaseModel)


class _Problem(BaseModel):
    question: str
    answer: str


class _MeetingTurn(BaseModel):
    speaker: str
    content: str


class _Query(BaseModel):
    query: str
    answer: str


class _Meeting(BaseModel):
    meeting_transcripts: list[_MeetingTurn]
    general_query_list: list[_Query]
    specific_query_list: list[_Query]


class _Clinc(BaseModel):
    """The training parts; `val` and `test` are ignored."""

    train: list[tuple[str, str]]
    oos_train: list[tuple[str, str]]


def conversations(path: Path, rng: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield the conversations of a file, a random share of them with the system turn that serving adds.

    Whitespace around turns is stripped, because a model would learn to end its replies with it.
    """
    found: list[Conversation] = []
    for item in read_conversations(path):
        if isinstance(item, BadLine):
            raise _wrong_format(path, f"line {item.line}", item.reason)
        stripped = (Turn(turn.role, turn.content.strip()) for turn in item.turns)
        turns = tuple(turn for turn in stripped if turn.content)
        left_out["empty turns"] += len(item.turns) - len(turns)
        left_out["conversations without words"] += not turns
        if turns:
            found.append(replace(item, turns=turns))
    for conversation in with_system_turns(found, rng):
        yield chat(conversation.id, conversation.source, conversation.turns)


def problems(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield GSM8K's problems: the question as the user's turn, the worked answer as the assistant's."""
    for number, problem in _lines(path, _Problem):
        answer = worked_answer(problem.answer)
        left_out["calculator annotations"] += problem.answer.count("<<")
        yield chat(f"gsm8k-{number}", "gsm8k", [Turn("user", problem.question.strip()), Turn("assistant", answer)])


def meetings(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield QMSum's meetings in texts of at most WORDS_OF_A_TEXT, then each query with its answer.

    A line is a turn; one that is longer than a text is split between sentences.
    """
    for number, meeting in _lines(path, _Meeting):
        texts = groups_of_lines(_turn_lines(meeting, left_out), WORDS_OF_A_TEXT)
        for part, text in enumerate(texts, start=1):
            yield plain(f"qmsum-{number}-{part}", "qmsum", text)
        queries = [*meeting.general_query_list, *meeting.specific_query_list]
        for part, query in enumerate(queries, start=1):
            turns = [Turn("user", untokenise(query.query)), Turn("assistant", untokenise(query.answer))]
            yield chat(f"qmsum-{number}-q{part}", "qmsum", turns)


def articles(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield wikitext's sections in texts of about WORDS_OF_A_TEXT: the article's title, the heading, paragraphs.

    Most paragraphs contain an unknown word, so the unit of removal is smaller: asides in parentheses with an
    unknown word, then sentences that still have one, and fragments of sentences. About a quarter of the words
    remain, in whole sentences that are not always adjacent in the source. Removing only the unknown words would
    leave nonsense.
    """
    number = 0
    for headings, paragraphs in _sections(path):
        kept = [text for line in paragraphs if (text := _known_sentences(line, left_out))]
        if not kept:
            left_out["sections without a known sentence"] += bool(paragraphs)
            continue
        kept[0] = "\n".join([*headings, kept[0]])
        for text in groups_of_lines(kept, WORDS_OF_A_TEXT):
            number += 1
            yield plain(f"wikitext-{number}", "wikitext-2", text)


def banking77(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield Banking77's utterances, see `_utterances`."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream, strict=True)
    except (ValueError, csv.Error) as error:  # empty, not UTF-8, or an unclosed quote
        raise _wrong_format(path, "the file", "not CSV in UTF-8 with a header") from error
    if header != ["text", "category"] or any(len(row) != len(header) for row in rows):
        raise _wrong_format(path, "the file", "its columns are not text and category")
    yield from _utterances("banking77", ((text, intent) for text, intent in rows))


def clinc(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield CLINC's training utterances, the out-of-scope ones as one intent, see `_utterances`."""
    try:
        parts = TypeAdapter(_Clinc).validate_json(path.read_bytes())
    except ValidationError as error:
        raise _wrong_format(path, "the file", _first(error)) from error
    yield from _utterances("clinc150", [*parts.train, *parts.oos_train])


def chat(identity: str, source: str, turns: Iterable[Turn]) -> Document:
    """Return a conversation as a document."""
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return {"id": identity, "source": source, "messages": messages}


def plain(identity: str, source: str, text: str) -> Document:
    """Return a text without speakers as a document."""
    return {"id": identity, "source": source, "text": text}


def _utterances(source: str, rows: Iterable[tuple[str, str]]) -> Iterator[Document]:
    """Yield texts of up to UTTERANCES_OF_A_TEXT utterances of one intent, one a line, without the intent's name.

    As conversations of a single user turn they would teach a model not to reply.
    """
    by_intent: dict[str, list[str]] = {}
    for text, intent in rows:
        by_intent.setdefault(intent, []).append(" ".join(text.split()))
    number = 0
    for texts in by_intent.values():
        for start in range(0, len(texts), UTTERANCES_OF_A_TEXT):
            number += 1
            yield plain(f"{source}-{number}", source, "\n".join(texts[start : start + UTTERANCES_OF_A_TEXT]))


def _turn_lines(meeting: _Meeting, left_out: Counter[str]) -> Iterator[str]:
    for turn in meeting.meeting_transcripts:
        words = spoken(turn.content)
        if not words:
            left_out["turns without words"] += 1
        for part in parts_of_line(words, WORDS_OF_A_TEXT - len(turn.speaker.split())) if words else ():
            yield f"{turn.speaker}: {part}"


def _sections(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Yield ([title, heading], [paragraph, ...]) of each section, without headings that have an unknown word."""
    title: list[str] = []
    section: tuple[list[str], list[str]] = ([], [])
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise _wrong_format(path, "the file", "not UTF-8 in gzip") from error
    for line in map(str.strip, text.split("\n")):
        heading = _HEADING.fullmatch(line)
        if heading:
            yield section
            named = [untokenise(heading[2])] if UNKNOWN not in heading[2] else []
            is_title = heading[1] == "="
            title = named if is_title else title
            section = (title if is_title else title + named, [])
        elif line:
            section[1].append(line)
    yield section


def _known_sentences(paragraph: str, left_out: Counter[str]) -> str:
    kept = []
    for sentence in tokenised_sentences(_UNKNOWN_ASIDE.sub("", paragraph)):
        words = sentence.split()
        if UNKNOWN in words:
            left_out["sentences with an unknown word"] += 1
        elif len(words) < _MIN_WORDS or words[0][0].islower():
            left_out["rests of sentences"] += 1
        else:
            kept.append(untokenise(sentence))
    left_out["asides with an unknown word"] += len(_UNKNOWN_ASIDE.findall(paragraph))
    return " ".join(kept)


def _lines(path: Path, model: type[_Line]) -> Iterator[tuple[int, _Line]]:
    for number, line in numbered_lines(path):
        if isinstance(line, BadLine):
            raise _wrong_format(path, f"line {number}", line.reason)
        try:
            yield number, model.model_validate_json(line)
        except ValidationError as error:
            raise _wrong_format(path, f"line {number}", _first(error)) from error


def _first(error: ValidationError) -> str:
    """Return location and message of the first error, without the text."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()


def _wrong_format(path: Path, location: str, reason: str) -> InputError:
    return InputError(
        f"{path} is not in the format of its data set, {location}: {reason}.",
        remedy="Download the file again from its upstream.",
        param="data",
    )
