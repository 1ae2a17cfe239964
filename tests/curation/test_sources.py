"""Sources of conversations: the repository gives what its files would, in batches of bounded size."""

import hashlib

import pytest

from mongars.curation import sources
from mongars.curation.sources import FileSource, RepositorySource
from mongars.errors import DatasetRefusedError, InputError
from mongars.formats.jsonl import write_conversations
from mongars.records import Conversation, Opinion, Profile, Turn


class Repository:
    """A repository of numbered conversations that remembers how many were read."""

    def __init__(self, count):
        self.count, self.yielded = count, 0

    def count_consented(self):
        return self.count

    def consented(self):
        for number in range(self.count):
            self.yielded += 1
            yield conversation(number)


def conversation(number):
    turns = (Turn("user", f"Où est le n° {number} ?"), Turn("assistant", "Ici."))
    opinions = (Opinion(turns[0].content, "Ici.", True),) if number % 2 else ()
    return Conversation(
        f"c{number:05d}", "ann", turns, consent=True, opinions=opinions, profile=Profile(names=("Ann Roy",))
    )


def read_all(source, tasks):
    return [item for parts in source.portions(tasks) for part in parts for item in source.read(part)]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1_000])
@pytest.mark.parametrize("tasks", [1, 3])
def test_the_repository_gives_every_conversation_once_in_order(count, tasks):
    items = read_all(RepositorySource(Repository(count)), tasks)
    assert [key for key, _ in items] == list(range(1, count + 1))
    assert [item for _, item in items] == [conversation(number) for number in range(count)]


def test_the_repository_gives_the_conversations_and_digest_of_its_file(tmp_path):
    path, stored = tmp_path / "all.jsonl", RepositorySource(Repository(300))
    write_conversations(path, map(conversation, range(300)))
    written = FileSource([path])
    assert read_all(stored, 2) == read_all(written, 2)
    assert stored.digests() == written.digests() == [hashlib.sha256(path.read_bytes()).hexdigest()]


def test_the_digest_depends_on_the_conversations_and_not_on_the_batches():
    few, many, other = RepositorySource(Repository(600)), RepositorySource(Repository(600)), Repository(601)
    read_all(few, 1)
    read_all(many, 2)
    read_all(many, 3)  # a second reading starts from nothing
    assert few.digests() == many.digests()
    longer = RepositorySource(other)
    read_all(longer, 1)
    assert longer.digests() != few.digests()


def test_no_more_conversations_are_read_than_one_portion_holds(monkeypatch):
    repository = Repository(5_000)
    next(RepositorySource(repository).portions(tasks=4))
    assert repository.yielded == repository.count  # a small repository is one portion
    monkeypatch.setattr(sources, "MAX_PART_ROWS", 300)
    next(RepositorySource(repository := Repository(5_000)).portions(tasks=4))
    assert repository.yielded == 4 * sources.PARTS_PER_TASK * 300 < repository.count


def test_a_part_is_bounded_in_bytes_and_in_rows(monkeypatch):
    size = len(sources.encode_conversation(conversation(0)))
    monkeypatch.setattr(sources, "MAX_PART_BYTES", 10 * size)
    (parts,) = RepositorySource(Repository(40)).portions(tasks=4)
    assert all(len(part["lines"]) <= 10 for part in parts)
    monkeypatch.undo()
    monkeypatch.setattr(sources, "MAX_PART_ROWS", 300)
    parts = [part for parts in RepositorySource(Repository(1_000)).portions(tasks=1) for part in parts]
    assert [len(part["lines"]) for part in parts] == [300, 300, 300, 100]
    assert [part["first"] for part in parts] == [1, 301, 601, 901]


def test_a_source_without_conversations_is_refused_with_the_remedy():
    with pytest.raises(DatasetRefusedError, match="mongars ingest"):
        RepositorySource(Repository(0)).check()
    with pytest.raises(InputError, match="at least one"):
        FileSource([]).check()


def test_a_bad_line_is_placed_in_the_file_as_the_caller_named_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("\nbroken\n")
    source = FileSource([tmp_path / "a.jsonl", tmp_path.relative_to(tmp_path) / "b.jsonl"])
    places = [source.place(key) for key, _ in read_all(source, 1)]
    assert places == [(str(tmp_path / "a.jsonl"), 2), ("b.jsonl", 2)]
