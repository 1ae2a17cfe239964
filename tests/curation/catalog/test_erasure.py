"""Erasing a person: their rows are gone and stay out, and nothing else is lost."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.curation.catalog.erasure import erase
from mongars.curation.catalog.manifest import Provenance
from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.curation.cleaning import Cleaner, as_table
from mongars.curation.dedup.minhash import normalise, shingle_hashes
from mongars.curation.dedup.selection import select
from mongars.curation.dedup.splits import DUPLICATE, PRIOR
from mongars.curation.filters.quality import DropReason
from mongars.curation.pii.pseudonyms import subject_id
from mongars.curation.recipe import CurationRecipe
from mongars.errors import DatasetRefusedError
from mongars.records import Conversation, Turn, now
from mongars.storage.digests import folder_digest

SECRET = b"s" * 32
RECIPE = CurationRecipe(languages=("en",), test_share=0.3)
TOPICS = (
    "Where does the old lighthouse keeper store his lamp oil in the winter months",
    "Which of the seven bridges was rebuilt after the flood and who drew the plans",
    "How long must the dough for a dark rye loaf rest before it goes into the oven",
)
ANA, BEN, CLEO = "ana", "ben", "cleo"


@pytest.fixture(autouse=True)
def any_language(monkeypatch):
    monkeypatch.setattr("mongars.curation.cleaning.detect_language", lambda _texts, languages: languages[0])


def said(identity, user, text, answer="Let me see what I can find out about that for you."):
    return Conversation(identity, user, (Turn("user", text), Turn("assistant", answer)), consent=True)


TALKS = (
    said("a1", ANA, TOPICS[0]),
    said("a2", ANA, TOPICS[1] + " please"),
    said("b1", BEN, TOPICS[0]),  # a copy of a1
    said("b2", BEN, "Is there a train to the coast on Sunday morning?"),
    said("b3", BEN, "My address is ben@example.org, do write to me there."),
    said("c1", CLEO, TOPICS[1] + " please?"),  # nearly a2
    said("c2", CLEO, TOPICS[2]),
)


def curated(catalog, talks, recipe=RECIPE):
    """Publish a version of `chats` of the talks, with the steps of the pipeline but without Ray."""
    import pyarrow as pa

    cleaner = Cleaner(recipe, now(), SECRET, erased=catalog.tombstones.subjects())
    rows = [cleaner.clean(key, talk) for key, talk in enumerate(talks)]
    texts = {row.key: normalise([message["content"] for message in row.messages]) for row in rows}
    chosen = select(as_table(rows), recipe, lambda keys: {key: shingle_hashes(texts[key]) for key in keys})
    splits = dict(zip(chosen.keys.tolist(), chosen.splits.tolist(), strict=True))
    by_id = sorted(rows, key=lambda row: row.id)

    def table(keys):
        found = [row for row in by_id if row.key in keys]
        whole = [dataclasses.asdict(row) | {"split": splits.get(row.key, DUPLICATE)} for row in found]
        return pa.Table.from_pylist(
            [{name: row[name] for name in ROW_SCHEMA.names} for row in whole], schema=ROW_SCHEMA
        )

    with catalog.open_draft("chats") as draft:
        draft.append(table(set(splits)))
        draft.set_aside(table(set(chosen.duplicates.tolist())))
        provenance = Provenance(recipe=recipe.as_json(), recipe_hash=recipe.digest(), rows_read=len(rows))
        return catalog.publish(draft, provenance)[0]


def subject(user):
    return subject_id(SECRET, user)


def without(user):
    return [talk for talk in TALKS if talk.user != user]


def contents(catalog, ref):
    manifest = catalog.manifest(ref)
    return manifest.digest, manifest.duplicates.digest, manifest.splits


def test_the_successor_equals_a_curation_without_the_person(catalog, tmp_path):
    curated(catalog, TALKS)
    (successor,) = erase(catalog, subject(ANA), preview=False).successors
    others = DatasetCatalog(tmp_path / "others")
    alone = curated(others, without(ANA))
    assert contents(catalog, successor.dataset) == contents(others, alone)
    assert (successor.removed, successor.readmitted, successor.rows) == (2, 2, 5)
    catalog.verify(successor.dataset)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from((ANA, BEN, CLEO)), st.sampled_from(TOPICS), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from((ANA, BEN, CLEO)),
)
def test_any_erasure_equals_a_curation_without_the_person(tmp_path_factory, drawn, user):
    talks = [
        said(f"t{number:02d}", who, text + (" indeed" if more else ""))
        for number, (who, text, more) in enumerate(drawn)
    ]
    catalog = DatasetCatalog(tmp_path_factory.mktemp("catalog"))
    whole = curated(catalog, talks)
    erase(catalog, subject(user), preview=False)
    alone = DatasetCatalog(tmp_path_factory.mktemp("alone"))
    expected = curated(alone, [talk for talk in talks if talk.user != user])
    left = catalog.get("chats")
    assert contents(catalog, left) == contents(alone, expected)
    assert (left == whole) is all(talk.user != user for talk in talks)


def test_a_preview_reports_the_erasure_and_changes_nothing(catalog):
    ref = curated(catalog, TALKS)
    before = folder_digest(catalog.root, files_of(catalog))
    shown = erase(catalog, subject(ANA))
    assert folder_digest(catalog.root, files_of(catalog)) == before
    assert catalog.list() == (ref,)
    done = erase(catalog, subject(ANA), preview=False)
    assert shown.versions == done.versions == (ref,)
    (planned,), (made,) = shown.successors, done.successors
    assert planned == dataclasses.replace(made, dataset=None)


def files_of(catalog):
    paths = (path.relative_to(catalog.root) for path in catalog.root.rglob("*") if path.is_file())
    return [path.as_posix() for path in paths if path.suffix != ".lock"]


def test_every_version_with_the_person_loses_its_rows_and_is_refused(catalog):
    refs = [curated(catalog, TALKS[:2]), curated(catalog, TALKS)]
    erase(catalog, subject(ANA), preview=False)
    for ref in refs:
        assert catalog.get(ref.name, ref.version).state == "erased"
        assert not list(catalog.manifest_path(ref).parent.glob("*.parquet"))
        with pytest.raises(DatasetRefusedError, match="is erased"):
            catalog.require_ready(ref)
        with pytest.raises(DatasetRefusedError, match="no rows to verify"):
            catalog.verify(ref)
    assert catalog.get("chats").state == "ready"
    assert b"lighthouse keeper" not in b"".join(path.read_bytes() for path in catalog.root.rglob("v1/*"))


def test_a_newer_version_without_the_person_stays_the_latest(catalog):
    curated(catalog, TALKS)
    latest = curated(catalog, without(ANA))
    erasure = erase(catalog, subject(ANA), preview=False)
    assert erasure.successors == ()
    assert catalog.get("chats") == latest


def test_an_equal_older_version_becomes_the_latest_again(catalog):
    alone = curated(catalog, without(ANA))
    curated(catalog, TALKS)
    (successor,) = erase(catalog, subject(ANA), preview=False).successors
    assert successor.dataset == alone
    assert catalog.get("chats") == alone
    assert catalog.require_ready(alone).rows == alone.rows


def test_a_row_with_the_id_of_an_erased_one_is_readmitted(catalog):
    longer = Conversation(
        "x", ANA, (*said("x", ANA, TOPICS[0]).turns, Turn("user", "Thanks a lot!")), consent=True
    )
    curated(catalog, [longer, said("x", BEN, TOPICS[2]), said("y", BEN, "Is it raining?")])
    (successor,) = erase(catalog, subject(ANA)).successors
    assert (successor.removed, successor.readmitted, successor.rows) == (1, 1, 2)


def test_the_card_counts_the_rows_set_aside_and_their_people(catalog):
    ref = curated(catalog, TALKS)
    card = (catalog.manifest_path(ref).parent / "README.md").read_text()
    assert "5 conversations" in card
    assert "set aside, of 3 people" in card
    assert "a row is erased: 2 conversations" in card


def test_curating_the_same_sources_does_not_bring_the_person_back(catalog):
    curated(catalog, TALKS)
    erase(catalog, subject(ANA), preview=False)
    left = catalog.get("chats")
    assert curated(catalog, TALKS) == left
    cleaner = Cleaner(RECIPE, now(), SECRET, erased=catalog.tombstones.subjects())
    assert cleaner.clean(0, TALKS[0]).outcome == DropReason.ERASED


def test_a_curation_started_before_the_erasure_publishes_nothing(catalog, make_rows):
    with catalog.open_draft("chats") as draft:
        draft.append(make_rows("a", subject=subject(ANA)))
        erase(catalog, subject(ANA), preview=False)
        with pytest.raises(DatasetRefusedError, match="erased in the meantime"):
            catalog.publish(draft, Provenance(recipe={}, recipe_hash="r"))
    assert catalog.list() == ()


@pytest.mark.parametrize("step", ["open_draft", "publish", "remove_rows", "unlink"])
def test_the_next_call_finishes_a_killed_erasure(catalog, monkeypatch, tmp_path, step):
    curated(catalog, TALKS[:2])
    curated(catalog, TALKS)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            "pathlib.Path.unlink" if step == "unlink" else f"{DatasetCatalog.__module__}.DatasetCatalog.{step}",
            killed,
        )
        with pytest.raises(KeyboardInterrupt):
            erase(catalog, subject(ANA), preview=False)
    erase(catalog, subject(ANA), preview=False)
    alone = DatasetCatalog(tmp_path / "others")
    expected = curated(alone, without(ANA))
    assert contents(catalog, catalog.get("chats")) == contents(alone, expected)
    assert [ref.state for ref in catalog.list()] == ["erased", "erased", "ready"]
    assert catalog.holding(subject(ANA)) == ()


def test_a_version_of_schema_1_is_erased_without_duplicates(catalog):
    ref = curated(catalog, TALKS)
    path = catalog.manifest_path(ref)
    facts = json.loads(path.read_text()) | {"schema": 1}
    del facts["duplicates"], facts["erased_at"]
    path.write_text(json.dumps(facts))
    (successor,) = erase(catalog, subject(ANA), preview=False).successors
    assert (successor.readmitted, successor.rows) == (0, 3)


def test_erasing_somebody_without_rows_changes_nothing(catalog):
    ref = curated(catalog, TALKS)
    erasure = erase(catalog, subject("nobody"), preview=False)
    assert (erasure.versions, erasure.successors) == ((), ())
    assert catalog.list() == (ref,)


def test_a_damaged_version_is_reported_before_anything_is_removed(catalog):
    ref = curated(catalog, TALKS)
    (part,) = catalog.parts(ref)
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(DatasetRefusedError, match="damaged"):
        erase(catalog, subject(ANA), preview=False)
    assert part.exists()


def test_damaged_tombstones_stop_a_curation(catalog):
    curated(catalog, TALKS)
    erase(catalog, subject(ANA), preview=False)
    (catalog.root / "erased.json").write_text("{}{")
    with pytest.raises(DatasetRefusedError, match="erased people are unknown"):
        curated(catalog, TALKS)


def test_rows_of_a_prior_version_stay_set_aside_and_splits_do_not_change(catalog, make_rows):
    with catalog.open_draft("later") as draft:
        draft.append(make_rows("a", subject="sub_gone"))
        draft.append(make_rows("bridges and the flood", subject="sub_b", split="test"))
        draft.append(make_rows("dark rye loaf", subject="sub_c", split="test"))
        draft.set_aside(make_rows("d", subject="sub_d", split=PRIOR))
        draft.set_aside(make_rows("e", subject="sub_gone", split=PRIOR))
        provenance = Provenance(recipe=RECIPE.as_json(), recipe_hash=RECIPE.digest(), against=("chats@v1",))
        catalog.publish(draft, provenance)
    (successor,) = erase(catalog, "sub_gone", preview=False).successors
    (kept,) = catalog.read(successor.dataset, catalog.parts(successor.dataset))
    (aside,) = catalog.read(successor.dataset, catalog.duplicates(successor.dataset))
    assert (kept["id"].to_pylist(), kept["split"].to_pylist()) == (
        ["bridges and the flood", "dark rye loaf"],
        ["test", "test"],
    )
    assert (aside["id"].to_pylist(), aside["split"].to_pylist()) == (["d"], [PRIOR])
    manifest = catalog.manifest(successor.dataset)
    assert manifest.against == ["chats@v1"]
    assert manifest.dropped == {"erased": 1, "in_earlier_version": 1}
    assert manifest.rows_read == manifest.rows + sum(manifest.dropped.values())


def test_versions_that_excluded_rows_of_the_person_are_listed(catalog, make_rows):
    def publish(name, subject, against=(), dropped=None):
        with catalog.open_draft(name) as draft:
            draft.append(make_rows(name, subject=subject))
            provenance = Provenance(
                recipe=RECIPE.as_json(), recipe_hash=RECIPE.digest(), against=against, dropped=dropped or {}
            )
            return catalog.publish(draft, provenance)[0]

    left_out = {DropReason.IN_PRIOR_VERSION: 1}
    publish("first", "sub_gone")
    publish("other", "sub_b")
    later = publish("later", "sub_c", ("other@v1", "first@v1"), left_out)
    publish("nothing-left-out", "sub_d", ("first@v1",))
    publish("of-another", "sub_e", ("other@v1",), left_out)
    assert erase(catalog, "sub_gone", preview=True).dependents == (later,)
    assert erase(catalog, "sub_gone", preview=False).dependents == (later,)
    assert erase(catalog, "sub_e", preview=True).dependents == ()
