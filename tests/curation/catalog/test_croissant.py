"""The Croissant file of a version describes each column and lists each file with its digest."""

import json

import pyarrow as pa
import pytest

from mongars.curation.catalog.rows import ROW_SCHEMA
from mongars.storage.digests import file_digest


@pytest.fixture
def described(catalog, publish):
    ref, _ = publish("a", "b")
    folder = catalog.manifest_path(ref).parent
    return ref, folder, json.loads((folder / "croissant.json").read_text())


def test_every_file_is_listed_with_its_digest_and_duplicates_are_not(catalog, described):
    ref, folder, croissant = described
    files = {each["contentUrl"]: each for each in croissant["distribution"] if each["@type"] == "cr:FileObject"}
    assert set(files) == {part.name for part in catalog.parts(ref)}
    for name, file in files.items():
        assert file["sha256"] == file_digest(folder / name)
        assert file["contentSize"] == f"{(folder / name).stat().st_size} B"
    (whole,) = (each for each in croissant["distribution"] if each["@type"] == "cr:FileSet")
    assert {path.name for path in folder.glob(whole["includes"])} == set(files)


def test_every_column_is_a_field(described):
    (records,) = described[2]["recordSet"]
    fields = {field["name"]: field for field in records["field"]}
    assert list(fields) == ROW_SCHEMA.names
    for name, field in fields.items():
        sources = [each["source"] for each in field.get("subField", [field])]
        assert all(source["extract"] == {"column": name} for source in sources)
        assert all(source["fileSet"]["@id"] == described[2]["distribution"][-1]["@id"] for source in sources)
    for name in ("messages", "opinions"):
        struct = ROW_SCHEMA.field(name).type.value_type
        assert isinstance(struct, pa.StructType)
        assert [each["name"] for each in fields[name]["subField"]] == [part.name for part in struct]


def test_version_digest_and_vocabulary_are_described(described):
    ref, _, croissant = described
    assert croissant["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert (croissant["name"], croissant["version"]) == ("chats", "1.0.0")
    assert ref.digest in croissant["description"]
    terms = set(croissant["@context"])
    schema_org = {"name", "description", "version", "datePublished", "license", "distribution"}
    assert {key for key in croissant if not key.startswith("@")} <= terms | schema_org


def test_an_erased_version_lists_no_file(catalog, described):
    ref, folder, _ = described
    catalog.remove_rows(ref)
    left = json.loads((folder / "croissant.json").read_text())
    assert [each["@type"] for each in left["distribution"]] == ["cr:FileSet"]
    assert "state erased" in left["description"]
