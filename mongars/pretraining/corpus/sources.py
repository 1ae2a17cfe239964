"""The text of each public data set as documents to pretrain on.

Owns the forms of the data sets' files and their rules: what becomes a document, what is left out and counted.
Must not know where the documents go. A document is a JSON object: `{"id", "source", "messages"}`, a conversation,
or `{"id", "source", "text"}`. A file that is not in its form raises InputError with the line, never with its text.
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
"""Yields the documents of a file; notes in the counter what is left out, by reason."""

# About 400 tokens: a text and its frame fit a context of 512 whole.
WORDS_OF_A_TEXT = 300
UTTERANCES_OF_A_TEXT = 10
UNKNOWN = "<unk>"  # stands in wikitext for every word that the data set's vocabulary lacks
_HEADING = re.compile(r"(=(?: =)*) (.+) \1")
_UNKNOWN_ASIDE = re.compile(rf"\( [^()]*{UNKNOWN}[^()]* \) ?")
# A sentence of fewer words that is left between sentences left out is mostly the rest of one.
_LEAST_WORDS = 4
_Form = TypeVar("_Form", bound=BaseModel)


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
    """The parts to train on; files with `val` and `test` have them ignored."""

    train: list[tuple[str, str]]
    oos_train: list[tuple[str, str]]


def conversations(path: Path, rng: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield the conversations of a file, a seeded share of them begun with a system turn as the server sends it.

    The white space around a turn is left out: a model would learn to end its replies with it.
    """
    found: list[Conversation] = []
    for item in read_conversations(path):
        if isinstance(item, BadLine):
            raise _not_in_form(path, f"line {item.line}", item.reason)
        stripped = (Turn(turn.role, turn.content.strip()) for turn in item.turns)
        turns = tuple(turn for turn in stripped if turn.content)
        left_out["empty turns"] += len(item.turns) - len(turns)
        left_out["conversations without words"] += not turns
        if turns:
            found.append(replace(item, turns=turns))
    for conversation in with_system_turns(found, rng):
        yield chat(conversation.id, conversation.source, conversation.turns)


def problems(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield GSM8K's problems: the question is the user's turn, the worked answer the assistant's."""
    for number, problem in _lines(path, _Problem):
        answer = worked_answer(problem.answer)
        left_out["calculator annotations"] += problem.answer.count("<<")
        yield chat(f"gsm8k-{number}", "gsm8k", [Turn("user", problem.question.strip()), Turn("assistant", answer)])


def meetings(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield QMSum's meetings, a line a turn, in texts of at most WORDS_OF_A_TEXT; then each query with its answer.

    Texts begin and end with a turn. A turn longer than a text is cut at the ends of sentences.
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

    Nine paragraphs of ten hold an unknown word (3,687 of 4,024), so sentences are left out, not paragraphs: first
    an aside in parentheses with the unknown word in it, then each sentence that still holds one, and short or
    headless rests of sentences. About a quarter of the words stay (104,004 of 445,183): whole sentences, but not
    always in touch with their neighbours. To leave out the unknown word alone would keep more, and keep nonsense.
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
    except (ValueError, csv.Error) as error:  # nothing to unpack, not UTF-8, or a quote that does not close
        raise _not_in_form(path, "the file", "not CSV in UTF-8 with a header") from error
    if header != ["text", "category"] or any(len(row) != len(header) for row in rows):
        raise _not_in_form(path, "the file", "its columns are not text and category")
    yield from _utterances("banking77", ((text, intent) for text, intent in rows))


def clinc(path: Path, _: Random, left_out: Counter[str]) -> Iterator[Document]:
    """Yield CLINC's utterances to train on, those out of scope as one group, see `_utterances`."""
    try:
        parts = TypeAdapter(_Clinc).validate_json(path.read_bytes())
    except ValidationError as error:
        raise _not_in_form(path, "the file", _first(error)) from error
    yield from _utterances("clinc150", [*parts.train, *parts.oos_train])


def chat(identity: str, source: str, turns: Iterable[Turn]) -> Document:
    """Return a conversation as a document."""
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return {"id": identity, "source": source, "messages": messages}


def plain(identity: str, source: str, text: str) -> Document:
    """Return a text of no speaker as a document."""
    return {"id": identity, "source": source, "text": text}


def _utterances(source: str, rows: Iterable[tuple[str, str]]) -> Iterator[Document]:
    """Yield utterances of one intent, UTTERANCES_OF_A_TEXT a text and one a line; the intent's name is not text.

    As conversations of one user turn they would teach that no reply follows a user. Together they are ways to say
    one thing.
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
    """Yield ([title, heading], [paragraph, ...]) of each section; a heading with an unknown word is left out."""
    title: list[str] = []
    section: tuple[list[str], list[str]] = ([], [])
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise _not_in_form(path, "the file", "not UTF-8 in gzip") from error
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
        elif len(words) < _LEAST_WORDS or words[0][0].islower():
            left_out["rests of sentences"] += 1
        else:
            kept.append(untokenise(sentence))
    left_out["asides with an unknown word"] += len(_UNKNOWN_ASIDE.findall(paragraph))
    return " ".join(kept)


def _lines(path: Path, form: type[_Form]) -> Iterator[tuple[int, _Form]]:
    for number, line in numbered_lines(path):
        if isinstance(line, BadLine):
            raise _not_in_form(path, f"line {number}", line.reason)
        try:
            yield number, form.model_validate_json(line)
        except ValidationError as error:
            raise _not_in_form(path, f"line {number}", _first(error)) from error


def _first(error: ValidationError) -> str:
    """Return where and what the first mistake is, without the text that has it."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()


def _not_in_form(path: Path, place: str, reason: str) -> InputError:
    return InputError(
        f"{path} is not in the form of its data set, {place}: {reason}.",
        remedy="Fetch the file anew from its upstream.",
        param="data",
    )
