import json
import stat

import pytest

from mongars.errors import AuthError, ForbiddenError, InputError, SettingsError, UnavailableError
from mongars.serving.http.auth import KeyRing, create_key


@pytest.fixture
def file(tmp_path):
    return tmp_path / "home" / "api_keys.json"


def test_a_key_is_known_by_its_header_with_its_user_scopes_and_consent(file):
    key = create_key(file, "ada", ("chat", "admin"), consent=True)
    principal = KeyRing(file).authenticate(f"Bearer {key}")
    assert (principal.user, principal.scopes, principal.consent) == ("ada", ("chat", "admin"), True)


def test_consent_is_off_and_scope_is_chat_by_default(file):
    key = create_key(file, "ada")
    principal = KeyRing(file).authenticate(f"Bearer {key}")
    assert principal.consent is False
    with pytest.raises(ForbiddenError, match="--admin"):
        principal.require("admin")


def test_the_file_contains_no_key_and_only_its_owner_can_read_it(file):
    key = create_key(file, "ada")
    assert key not in file.read_text()
    assert key.removeprefix("mg-") not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer mg-wrong"])
def test_anything_but_a_known_key_is_refused(file, header):
    create_key(file, "ada")
    with pytest.raises(AuthError):
        KeyRing(file).authenticate(header)


def test_a_missing_keys_file_is_an_error_that_names_the_command(file):
    with pytest.raises(SettingsError, match="mongars keys create --user NAME"):
        KeyRing(file)


def test_a_new_key_works_and_a_removed_one_stops_at_once(file):
    old = create_key(file, "ada")
    ring = KeyRing(file)
    new = create_key(file, "bob")
    assert ring.authenticate(f"Bearer {new}").user == "bob"
    content = json.loads(file.read_text())
    content["keys"] = content["keys"][1:]
    file.write_text(json.dumps(content))
    with pytest.raises(AuthError):
        ring.authenticate(f"Bearer {old}")
    file.unlink()
    with pytest.raises(AuthError):
        ring.authenticate(f"Bearer {new}")


def test_a_damaged_file_admits_no_caller(file):
    key = create_key(file, "ada")
    ring = KeyRing(file)
    file.write_text("{")
    with pytest.raises(UnavailableError):
        ring.authenticate(f"Bearer {key}")
    with pytest.raises(UnavailableError):
        create_key(file, "bob")


def test_an_unknown_scope_or_an_empty_user_is_refused(file):
    with pytest.raises(InputError):
        create_key(file, "ada", ("root",))
    with pytest.raises(InputError):
        create_key(file, " ")
