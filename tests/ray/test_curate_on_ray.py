"""The whole curation on a real Ray: faults are found, counts add up, and equal text has one digest."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from ray import cloudpickle

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.erasure import erase
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.curation.cleaning import Cleaner
from mongars.curation.pii.pseudonyms import subject_id
from mongars.curation.pipeline import curate
from mongars.curation.recipe import CurationRecipe
from mongars.curation.sources import FileSource, RepositorySource
from mongars.errors import DatasetRefusedError, InputError, SettingsError
from mongars.formats.jsonl import read_conversations, write_conversations
from mongars.memory.sql.persistence import PersistenceRepository
from mongars.settings import UNSAFE_RAY_DATA
from mongars.storage.digests import file_digest

pytestmark = pytest.mark.ray

SECRET = b"s" * 32
RECIPE = CurationRecipe(languages=("en",), test_share=0.3)
JOB = Path(__file__).parents[2] / "jobs" / "curate.py"
VOCABULARY = (
    "market river garden window letter winter morning bicycle kitchen teacher village summer library "
    "mountain painter station weather harbour dinner journey captain forest candle bridge orchard doctor "
    "island blanket singer ladder mirror engine pocket basket meadow shelter corner ticket cousin farmer "
    "lantern pillow thunder whistle quarter saddle curtain pepper bottle hammer feather"
)
WORDS = VOCABULARY.split()


PERSONAL = "Write to anna@example.com or call (514) 555-0123."


class BlindCleaner(Cleaner):
    """A cleaner whose detectors find nothing."""

    def _redacted(self, texts, subject, known):
        return {text: text for text in texts}, []


def line(identity, *contents, **values):
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]
    return json.dumps({"id": identity, "messages": messages} | values)


def good(number):
    rng = random.Random(number)

    def some():
        return " and the ".join(rng.sample(WORDS, 3))

    contents = [
        (f"Can you tell me more about the {some()}?", f"Here is the {some()}, as you asked.")[n % 2]
        for n in range(8)
    ]
    return line(f"good-{number:03d}", *contents, user=f"user-{number % 12}")


@pytest.fixture(scope="module")
def lines():
    planted = [
        line("junk-1", "a" * 60, "I did not understand that.", user="user-1"),
        line("junk-2", "buy now " * 20, "I did not understand that.", user="user-2"),
        line("no-consent", "Please forget me, that is all I want.", "Of course I will.", consent=False),
        line(
            "personal",
            PERSONAL,
            "I will do so today, thank you.",
            opinions=[{"query": PERSONAL, "text": "I wrote to bob@example.org.", "good": False}],
        ),
        good(3).replace("good-003", "zz-copy"),
        good(4).replace("good-004", "zz-near").replace("Can you", "Could you", 1),
        "broken json",
        '{"id": "x", "messages": [{"role": "robot", "content": "x"}]}',
    ]
    return [good(number) for number in range(60)] + planted


def run(sources, catalog, recipe=RECIPE, **options):
    return curate(FileSource(sources), recipe, catalog, secret=SECRET, name="chats", **options)


def rows_of(catalog, ref):
    return [row for part in catalog.parts(ref) for row in pq.read_table(part).to_pylist()]


@pytest.fixture(scope="module")
def whole(ray_session, lines, tmp_path_factory):
    """Return the curation of all lines. Its catalog is shared: a test that changes it takes a copy."""
    home, progress = tmp_path_factory.mktemp("whole"), []
    (home / "in.jsonl").write_text("\n".join(lines))
    catalog = DatasetCatalog(home / "datasets")
    report = run([home / "in.jsonl"], catalog, on_progress=lambda *step: progress.append(step))
    return SimpleNamespace(source=home / "in.jsonl", catalog=catalog, report=report, progress=progress)


@pytest.fixture
def own_catalog(whole, tmp_path):
    """Return a copy of the catalog of the whole curation."""
    return DatasetCatalog(shutil.copytree(whole.catalog.root, tmp_path / "datasets"))


def test_planted_faults_are_dropped_and_every_row_is_accounted_for(whole):
    report = whole.report
    assert report.dropped == {
        "exact_duplicate": 1,
        "near_duplicate": 1,
        "no_consent": 1,
        "repeated_characters": 1,
        "repeated_words": 1,
    }
    assert [(bad.path, bad.line) for bad in report.bad_lines] == [(str(whole.source), 67), (str(whole.source), 68)]
    assert report.rows_read == 68 == report.rows_kept + sum(report.dropped.values()) + len(report.bad_lines)
    assert report.dataset.state == "ready"
    whole.catalog.verify(report.dataset)
    rows = rows_of(whole.catalog, report.dataset)
    assert [row["id"] for row in rows] == sorted([f"good-{n:03d}" for n in range(60)] + ["personal"])
    assert whole.progress[-1] == (61, 61, "write")
    assert {stage for _, _, stage in whole.progress} == {"clean", "deduplicate", "write"}


def test_personal_data_is_redacted_in_messages_and_opinions(whole):
    assert whole.report.pii == {"EMAIL": 2, "PHONE": 1}
    rows = rows_of(whole.catalog, whole.report.dataset)
    assert not any("anna@" in message["content"] for row in rows for message in row["messages"])
    (judged,) = (row for row in rows if row["opinions"])
    (opinion,) = judged["opinions"]
    assert opinion["query"] == judged["messages"][0]["content"]
    assert opinion["text"].startswith("I wrote to <EMAIL_")
    assert opinion["good"] is False


def test_no_subject_is_on_both_sides_of_the_split(whole):
    rows = rows_of(whole.catalog, whole.report.dataset)
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["subject"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert {row["split"] for row in rows} == {"train", "test"}


def test_parts_have_the_columns_of_the_row_schema(whole):
    for part in whole.catalog.parts(whole.report.dataset):
        assert pq.read_schema(part).equals(ROW_SCHEMA)
        assert pq.read_schema(part).field("messages").type == pa.list_(
            pa.struct([("role", pa.string()), ("content", pa.string())])
        )


def test_order_and_files_do_not_change_the_digest_and_a_second_run_reuses_it(whole, own_catalog, lines, tmp_path):
    mixed = random.Random(1).sample(lines, len(lines))
    halves = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    halves[0].write_text("\n".join(mixed[:30]))
    halves[1].write_text("\n".join(mixed[30:]))
    again = run(halves, own_catalog)
    assert (again.dataset, again.reused, whole.report.reused) == (whole.report.dataset, True, False)
    assert own_catalog.list() == (whole.report.dataset,)


def test_erasing_a_user_gives_the_digest_of_curating_everybody_else(whole, own_catalog, lines, tmp_path):
    user = "user-3"
    (successor,) = erase(own_catalog, subject_id(SECRET, user), preview=False).successors
    source = tmp_path / "others.jsonl"
    source.write_text("\n".join(text for text in lines if f'"user": "{user}"' not in text))
    others = run([source], DatasetCatalog(tmp_path / "others"))
    assert (successor.dataset.digest, successor.rows) == (others.dataset.digest, others.rows_kept)
    assert successor.removed == 5
    again = run([whole.source], own_catalog)
    assert (again.dataset, again.reused) == (successor.dataset, True)
    assert again.dropped["erased"] == 6  # one of them is a copy of another
    assert whole.report.dataset.digest != others.dataset.digest


def test_excluding_a_version_keeps_only_new_rows_and_their_splits(ray_session, lines, tmp_path):
    catalog = DatasetCatalog(tmp_path / "datasets")
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text("\n".join(lines[:40]))
    near = good(5).replace("good-005", "aa-near").replace("Can you", "Could you", 1)
    new.write_text("\n".join([*lines[40:60], near]))
    earlier = run([old], catalog).dataset
    report = curate(FileSource([old, new]), RECIPE, catalog, secret=SECRET, name="later", exclude=[earlier])
    rows = rows_of(catalog, report.dataset)
    assert [row["id"] for row in rows] == [f"good-{number:03d}" for number in range(40, 60)]
    assert report.dropped == {"in_earlier_version": 41}
    assert report.rows_read == 61
    sides = {row["subject"]: row["split"] for row in rows_of(catalog, earlier)}
    assert all(sides[row["subject"]] == row["split"] for row in rows)
    manifest = catalog.manifest(report.dataset)
    assert (manifest.against, earlier.digest in manifest.parents) == (["chats@v1"], True)
    assert "chats@v1" in (catalog.manifest_path(report.dataset).parent / "README.md").read_text()
    aside = [row for part in catalog.duplicates(report.dataset) for row in pq.read_table(part).to_pylist()]
    assert {row["split"] for row in aside} == {"earlier"}
    again = curate(FileSource([new, old]), RECIPE, catalog, secret=SECRET, name="later", exclude=[earlier])
    assert (again.dataset, again.reused) == (report.dataset, True)


def test_the_shards_of_one_file_give_the_same_digest_as_one_task(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("mongars.formats.shards.MIN_SHARD_BYTES", 1)
    shared = run([whole.source], DatasetCatalog(tmp_path / "shared"))
    assert shared.dataset.digest == whole.report.dataset.digest
    assert shared.bad_lines == whole.report.bad_lines


def test_the_repository_gives_the_version_of_its_file_and_only_consented_rows(
    ray_session, lines, tmp_path, monkeypatch
):
    for name, value in (("MIN_PART_ROWS", 10), ("MAX_PART_ROWS", 10), ("PARTS_PER_TASK", 1)):
        monkeypatch.setattr(f"mongars.curation.sources.{name}", value)  # several portions of several parts
    path, refused = tmp_path / "in.jsonl", good(99).replace("{", '{"consent": false, ', 1)
    path.write_text("\n".join([*lines[:60], refused]))
    repository = PersistenceRepository(f"sqlite:///{tmp_path / 'database' / 'mongars.db'}")
    repository.migrate()
    for conversation in read_conversations(path):
        repository.save_conversation(conversation)
    catalog = DatasetCatalog(tmp_path / "datasets")
    first = curate(RepositorySource(repository), RECIPE, catalog, secret=SECRET, name="chats")
    assert (first.rows_read, first.rows_kept, first.dropped) == (60, 60, {})
    again = curate(RepositorySource(repository), RECIPE, catalog, secret=SECRET, name="chats")
    assert (again.dataset, again.reused) == (first.dataset, True)
    exported = tmp_path / "exported.jsonl"
    write_conversations(exported, repository.consented())
    assert run([exported], catalog).dataset == first.dataset
    assert catalog.manifest(first.dataset).parents == [file_digest(exported)]
    repository.close()


def test_parquet_gives_the_digest_of_the_same_lines_and_names_bad_rows(whole, lines, tmp_path, monkeypatch):
    monkeypatch.setattr("mongars.formats.shards.MIN_SHARD_BYTES", 1_000)  # several tasks share the file
    path = tmp_path / "in.parquet"
    rows = [json.loads(text) for text in lines if text != "broken json"]
    plain = {"user": None, "consent": True, "opinions": None}
    pq.write_table(pa.Table.from_pylist([plain | row for row in rows]), path, row_group_size=10)
    report = run([path], DatasetCatalog(tmp_path / "rows"))
    assert report.dataset.digest == whole.report.dataset.digest
    assert report.dropped == whole.report.dropped
    (bad,) = report.bad_lines
    assert (bad.path, bad.line) == (str(path), len(rows))
    assert bad.reason.startswith("message 1 has no role")


def test_parquet_with_ray_data_tensors_is_refused_before_anything_is_written(whole, lines, tmp_path):
    folder = tmp_path / "written"
    tensor = {"image": np.zeros((2, 2))}
    ray.data.from_items([json.loads(text) | tensor for text in lines[:3]]).write_parquet(str(folder))
    path = next(folder.glob("*.parquet"))
    catalog = DatasetCatalog(tmp_path / "datasets")
    with pytest.raises(InputError, match="extension types"):
        run([whole.source, path], catalog)
    assert not catalog.root.exists()


def test_sources_without_a_good_line_give_an_empty_version(ray_session, tmp_path):
    bad, empty = tmp_path / "in.jsonl", tmp_path / "empty.jsonl"
    bad.write_text("broken\n\n" + line("junk", "a" * 60, "What?"))
    empty.write_text("")
    report = run([bad, empty], DatasetCatalog(tmp_path / "datasets"))
    assert (report.rows_read, report.rows_kept, len(report.bad_lines)) == (2, 0, 1)
    assert report.dataset.rows == 0


def test_the_leak_check_quarantines_a_version_when_detectors_fail(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("mongars.curation.pipeline.Cleaner", BlindCleaner)
    catalog = DatasetCatalog(tmp_path / "datasets")
    # The workers cannot import this test file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        report = run([whole.source], catalog)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert report.leaks == {"EMAIL": 1, "PHONE": 1}
    assert report.dataset.state == "quarantined"
    with pytest.raises(DatasetRefusedError, match="leak check"):
        catalog.require_ready(report.dataset)


def test_a_missing_source_and_an_unsafe_environment_are_refused_at_once(whole, tmp_path, monkeypatch):
    catalog = DatasetCatalog(tmp_path / "datasets")
    with pytest.raises(InputError, match=r"missing\.jsonl"):
        run([whole.source, tmp_path / "missing.jsonl"], catalog)
    for name in UNSAFE_RAY_DATA:
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            with pytest.raises(SettingsError, match=name):
                run([whole.source], catalog)
    assert not catalog.root.exists()


def test_the_job_prints_a_report_names_bad_lines_and_sets_its_exit_code(job_environment, whole, tmp_path):
    environment = job_environment | {"MONGARS_HOME": str(tmp_path / "home"), "MONGARS_LANGUAGES": "en"}
    environment |= {"MONGARS_MODELS_DIR": str(tmp_path / "models")}
    command = [sys.executable, str(JOB), "--name", "chats"]
    done = subprocess.run(
        [*command, "--input", str(whole.source)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows_kept"], report["dataset"]["version"]) == (61, "v1")
    assert f"{whole.source}:67: not JSON" in done.stderr
    assert (tmp_path / "home" / "pseudonyms.key").is_file()


def test_cleaning_reports_progress_per_block_and_the_total_from_the_start(ray_session, tmp_path, monkeypatch):
    monkeypatch.setattr("mongars.curation.pipeline.BLOCK_BYTES", 64 * 1024)
    source, count = tmp_path / "many.jsonl", 500
    source.write_text("".join(good(number) + "\n" for number in range(count)))
    seen = []
    run([source], DatasetCatalog(tmp_path / "datasets"), on_progress=lambda *step: seen.append(step))
    cleaning = [(done, total) for done, total, stage in seen if stage == "clean"]
    assert {total for _, total in cleaning} == {count}
    assert (cleaning[0][0], cleaning[-1][0]) == (0, count)
    assert len(cleaning) > 3
    assert cleaning == sorted(cleaning)
