"""The secret, and the pseudonyms that it keys."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from mongars.curation.pii.pseudonyms import TAG, Pseudonyms, load_or_create_secret, subject_id
from mongars.errors import InputError


def test_the_secret_is_created_once_and_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "home" / "pseudonyms.key"
    secret = load_or_create_secret(path)
    assert len(secret) == 32
    assert load_or_create_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_concurrent_callers_get_the_same_secret(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(load_or_create_secret, [tmp_path / "pseudonyms.key"] * 32))
    assert len(set(secrets)) == 1


@pytest.mark.parametrize("content", ["", "not hex", "abcd"])
def test_a_damaged_secret_is_refused_and_not_replaced(tmp_path, content):
    path = tmp_path / "pseudonyms.key"
    path.write_text(content)
    with pytest.raises(InputError, match="Restore it from a backup"):
        load_or_create_secret(path)
    assert path.read_text() == content


def test_a_tag_depends_on_secret_subject_type_and_value():
    tags = {
        Pseudonyms(secret, subject).tag(kind, value)
        for secret in (b"a" * 32, b"b" * 32)
        for subject in ("s1", "s2")
        for kind in ("EMAIL", "PHONE")
        for value in ("a@b.c", "d@e.f")
    }
    assert len(tags) == 16
    assert all(TAG.fullmatch(tag) for tag in tags)


def test_a_number_has_the_same_tag_in_every_form():
    pseudonyms = Pseudonyms(b"a" * 32, "s1")
    assert pseudonyms.tag("PHONE", "(514) 555-0123") == pseudonyms.tag("PHONE", "514.555.0123")


def test_tags_and_subject_ids_do_not_change_between_releases():
    assert Pseudonyms(b"a" * 32, "s1").tag("EMAIL", "a@b.c") == "<EMAIL_7d33>"
    assert subject_id(b"a" * 32, "anna") == "sub_e2ea53a8a31443847407eb44"


def test_a_subject_id_does_not_reveal_the_user():
    assert subject_id(b"a" * 32, "anna") != subject_id(b"b" * 32, "anna")
    assert "anna" not in subject_id(b"a" * 32, "anna")
