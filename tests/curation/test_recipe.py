"""The recipe: validated, and identified by a digest that must never change by accident."""

import dataclasses

import pytest

from mongars.curation.recipe import CurationRecipe
from mongars.errors import SettingsError


@pytest.mark.parametrize(
    "values",
    [
        {"languages": ()},
        {"languages": ("klingon",)},
        {"retention_days": 0},
        {"near_duplicate_jaccard": 0.0},
        {"near_duplicate_jaccard": 1.1},
        {"test_share": 1.0},
        {"test_share": -0.1},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(SettingsError):
        CurationRecipe(**values)


# Published versions are found by these digests: new values mean that every dataset is curated again. They may
# change with RULES, and with nothing else.
DIGESTS = [
    ({}, "c8a33c1494f92f6f9d9c5fe064109cd8c9473e88e96f07bca82e9b30ff46bbf2"),
    ({"languages": ("fr", "en")}, "c8a33c1494f92f6f9d9c5fe064109cd8c9473e88e96f07bca82e9b30ff46bbf2"),
    ({"languages": ("de",)}, "8a9343b65c02127112c9e54709517e06521f86f36823bd56f10e8090eb513f3e"),
    ({"retention_days": 1}, "01025a5effca488a3b2043809f751fcbd7320b6edaa9527d638e23229d6d0fc2"),
    ({"person_names": False}, "2b33d2e6b01d5c49dbb47bf431934da2e27d7e7e7da97b5b491fd29c350d016b"),
    ({"near_duplicate_jaccard": 0.8}, "70a9798ca6408e8307d2d301d4e5fc13ac22f93a687ccd49a6e51ee77265f84e"),
    ({"test_share": 0.2}, "207601afbb9d61279b01f147c8f416100f460984e222ad305ed1c796f4f362b0"),
    ({"split_seed": 1}, "4f6380866fd7ff7d06590456c75c52c5c30f0368c4a37a3372724f50bcd12fb7"),
]


@pytest.mark.parametrize(("values", "digest"), DIGESTS)
def test_every_option_changes_the_digest_and_the_order_of_languages_does_not(values, digest):
    assert CurationRecipe(**values).digest() == digest


def test_every_option_has_a_golden_digest():
    tested = {name for values, _ in DIGESTS for name in values}
    assert tested == {each.name for each in dataclasses.fields(CurationRecipe)}
