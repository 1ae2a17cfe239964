import gzip
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mongars.errors import InputError
from mongars.pretraining.corpus import sources as nano_sources
from mongars.pretraining.corpus.sources import Document, Reader


def read(reader: Reader, path: Path) -> tuple[list[Document], Counter[str]]:
    left_out: Counter[str] = Counter()
    return list(reader(path, Random(0), left_out)), left_out


def lines(path: Path, *values: Any) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(value) + "\n" for value in values).encode()))
    return path


def turns_of(document: Document) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in document["messages"]]


def meeting(*turns: tuple[str, str], queries: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    return {
        "domain": "Garden",
        "meeting_transcripts": [{"speaker": speaker, "content": content} for speaker, content in turns],
        "general_query_list": [{"query": query, "answer": answer} for query, answer in queries[:1]],
        "specific_query_list": [{"query": query, "answer": answer} for query, answer in queries[1:]],
    }


def test_conversations_lose_whitespace_and_empty_turns_only(tmp_path: Path) -> None:
    turns = [("user", " Hello? "), ("assistant", "  "), ("assistant", "Hello!")]
    messages = [{"role": role, "content": content} for role, content in turns]
    path = lines(
        tmp_path / "talks.jsonl.gz",
        {"id": "a", "source": "talks", "topic": "none", "messages": messages},
        {"id": "b", "source": "talks", "messages": [{"role": "user", "content": ""}]},
    )
    (document,), left_out = read(nano_sources.conversations, path)
    assert (document["id"], document["source"]) == ("a", "talks")
    assert turns_of(document)[-2:] == [("user", "Hello?"), ("assistant", "Hello!")]
    assert left_out == {"empty turns": 2, "conversations without words": 1}


def test_a_problem_is_a_question_and_its_worked_answer(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl.gz", {"question": "Two hens and two?", "answer": "2+2 = <<2+2=4>>4\n#### 4"})
    (document,), left_out = read(nano_sources.problems, path)
    assert turns_of(document) == [("user", "Two hens and two?"), ("assistant", "2+2 = 4\nThe answer is 4.")]
    assert left_out == {"calculator annotations": 1}


def test_a_meeting_gives_texts_of_turns_and_a_conversation_for_each_query(tmp_path: Path) -> None:
    turns = [("Gardener A", "The peas {disfmarker} are up ."), ("Clerk", "{vocalsound}"), ("Clerk", "Good !")]
    queries = (("Sum it up", "Peas grew ."), ("And the clerk ?", "Was glad ."))
    documents, left_out = read(
        nano_sources.meetings, lines(tmp_path / "m.jsonl.gz", meeting(*turns, queries=queries))
    )
    assert documents[0]["text"] == "Gardener A: The peas are up.\nClerk: Good!"
    assert [turns_of(document) for document in documents[1:]] == [
        [("user", "Sum it up"), ("assistant", "Peas grew.")],
        [("user", "And the clerk?"), ("assistant", "Was glad.")],
    ]
    assert left_out == {"turns without words": 1}


def test_a_long_meeting_is_split_between_turns_and_long_turns_between_sentences(tmp_path: Path) -> None:
    turns = [(f"Guest {number}", "so " * 100) for number in range(7)]
    turns.append(("Host", "We dug the beds and sowed peas . " * 120))
    documents, _ = read(nano_sources.meetings, lines(tmp_path / "m.jsonl.gz", meeting(*turns)))
    texts = [document["text"] for document in documents]
    assert all(len(text.split()) <= nano_sources.WORDS_OF_A_TEXT for text in texts)
    assert all(line.startswith(("Guest ", "Host: ")) for text in texts for line in text.split("\n"))
    assert all(line.endswith("peas.") for text in texts for line in text.split("\n") if line.startswith("Host"))
    assert sum(text.count("sowed") for text in texts) == 120


def test_an_article_gives_its_sections_without_unknown_words(tmp_path: Path) -> None:
    path = tmp_path / "w.txt.gz"
    path.write_bytes(
        gzip.compress(
            b" \n = Blue ford = \n \n The ford ( <unk> ) is 1 @,@ 200 m wide . It is <unk> . It 's old . \n"
            b" \n = = Use = = \n \n Carts crossed it . and <unk> . so did dogs . \n"
            b" Two men . Nobody swam there . \n"
            b" \n = = <unk> walls = = \n \n The wall fell long ago . \n"
            b" \n = = Names = = \n \n A <unk> . \n"
            b" \n = The <unk> = \n \n This one has no title . \n"
        )
    )
    documents, left_out = read(nano_sources.articles, path)
    assert [document["text"] for document in documents] == [
        "Blue ford\nThe ford is 1,200 m wide. It's old.",
        "Blue ford\nUse\nCarts crossed it.\nNobody swam there.",
        "Blue ford\nThe wall fell long ago.",
        "This one has no title.",
    ]
    assert left_out == {
        "asides with an unknown word": 1,
        "sentences with an unknown word": 3,
        "rests of sentences": 2,
        "sections without a known sentence": 1,
    }


def test_utterances_of_an_intent_form_texts_without_its_name(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    rows = [f'"Where, pray, is hen {number}?\n",lost_hen' for number in range(12)]
    path.write_text("\n".join(["text,category", rows[0], "Is it noon?,clock", *rows[1:]]) + "\n")
    documents, _ = read(nano_sources.banking77, path)
    texts = [document["text"].split("\n") for document in documents]
    assert [len(text) for text in texts] == [10, 2, 1]
    assert texts[0][1] == "Where, pray, is hen 1?"
    assert texts[2] == ["Is it noon?"]
    assert "lost_hen" not in str(documents)


def test_only_the_training_parts_of_clinc_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    parts = {"train": [["wake me", "alarm"]], "oos_train": [["why moss", "oos"]], "test": [["held out", "alarm"]]}
    path.write_text(json.dumps(parts))
    documents, _ = read(nano_sources.clinc, path)
    assert [document["text"] for document in documents] == ["wake me", "why moss"]


@pytest.mark.parametrize(
    ("reader", "content", "reason"),
    [
        (nano_sources.conversations, gzip.compress(b'{"id": "SECRET"}\n', mtime=0), "line 1: no list `messages`"),
        (nano_sources.problems, gzip.compress(b'{"question": "SECRET"}\n', mtime=0), "line 1: answer"),
        (nano_sources.problems, gzip.compress(b'{"question"\n' * 99, mtime=0)[:-20], "line"),
        (nano_sources.meetings, gzip.compress(b"SECRET\n", mtime=0), "line 1: Invalid JSON"),
        (nano_sources.articles, b"SECRET", "not UTF-8 in gzip"),
        (nano_sources.banking77, b"utterance,category\nSECRET,x\n", "text and category"),
        (nano_sources.banking77, b"text,category\nSECRET\n", "text and category"),
        (nano_sources.banking77, b"", "with a header"),
        (nano_sources.clinc, b'{"train": [["SECRET"]], "oos_train": []}', "train.0.1"),
    ],
)
def test_a_file_in_another_format_is_refused_without_its_text(
    tmp_path: Path, reader: Reader, content: bytes, reason: str
) -> None:
    path = tmp_path / "data.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not in the format") as raised:
        read(reader, path)
    assert reason in str(raised.value)
    assert str(path) in str(raised.value)
    assert "SECRET" not in str(raised.value)
