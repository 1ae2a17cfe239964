"""Network addresses and coordinates."""

import pytest


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("mail anna (at) example (dot) com", "EMAIL", "anna (at) example (dot) com"),
        ("écris à anna [arobase] exemple.fr", "EMAIL", "anna [arobase] exemple.fr"),
        ("device 00:1A:2b:3C:4d:5E is up", "MAC", "00:1A:2b:3C:4d:5E"),
        ("device 00-1A-2b-3C-4d-5E is up", "MAC", "00-1A-2b-3C-4d-5E"),
        ("device 001a.2b3c.4d5e is up", "MAC", "001a.2b3c.4d5e"),
        ("at 045.5.005.200 now", "IP", "045.5.005.200"),
        ("see 2001:db8:85a3::8a2e:370:7334.", "IP", "2001:db8:85a3::8a2e:370:7334"),
        ("we are at 48.85837, 2.29448 now", "COORDINATES", "48.85837, 2.29448"),
        ("at 45°30'31\"N 73°33'15\"W", "COORDINATES", "45°30'31\"N 73°33'15\"W"),
        ("ftp://me:pw@host.example/x", "URL_CREDENTIALS", "ftp://me:pw@host.example/x"),
        ("My website is https://anna.example/.", "SITE", "https://anna.example/"),
        ("mon blog est www.anna.example", "SITE", "www.anna.example"),
    ],
)
def test_an_address_is_found_with_its_type_and_place(found, text, kind, value):
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "look at example dot com",
        "the hash ab:cd:ef is short and 12:34:56 is a time",
        "version 1.2.3.4.5 and 300.1.1.1",
        "temperatures of 48.8, 2.2 and a price of 12.3456, 7",
        "95.12345, 200.12345 lie nowhere",
        "Read https://example.com/page?id=3 and www.example.com",
    ],
)
def test_what_only_looks_like_an_address_is_ignored(found, text):
    assert found(text) == []
