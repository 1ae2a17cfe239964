"""Keys and named passwords."""

import pytest

KEYS = [
    "sk-abcdefghijklmnop1234",
    "sk_live_abcdefghijklmnop1234",
    "ghp_" + "a1" * 18,
    "github_pat_" + "a1" * 15,
    "glpat-" + "a1" * 10,
    "AKIA" + "A1" * 8,
    "xoxb-1234567890-abc",
    "AIza" + "a" * 35,
    "hf_" + "a1" * 17,
    "npm_" + "a" * 36,
    "SG." + "a" * 22 + "." + "b" * 43,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdef",
    "-----BEGIN RSA PRIVATE KEY-----\nabc=\n-----END RSA PRIVATE KEY",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_a_published_form_is_found(found, key):
    ((kind, value),) = found(f"use {key} here"[: 4 + len(key)])
    assert (kind, value) == ("SECRET", key)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("the password is tr0ub4dor&3, ok", "tr0ub4dor&3,"),
        ("mot de passe : s0leil99", "s0leil99"),
        ("API key = 'abc123xyz'", "abc123xyz"),
        ("Authorization: Bearer abc123def456", "abc123def456"),
    ],
)
def test_a_named_secret_with_a_digit_is_found(found, text, value):
    assert found(text) == [("SECRET", value)]


@pytest.mark.parametrize(
    "text", ["My password is wrong.", "the secret is to stir 3 times", "a task-list", "eyJust"]
)
def test_talk_about_secrets_reveals_none(found, text):
    assert found(text) == []
