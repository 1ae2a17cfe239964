"""The recipe: validated, and named by a hash."""

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
def test_values_that_make_no_sense_are_refused(values):
    with pytest.raises(SettingsError):
        CurationRecipe(**values)


def test_the_hash_changes_with_every_choice_but_not_with_the_order_of_languages():
    base = CurationRecipe()
    assert base.digest() == CurationRecipe(languages=("fr", "en")).digest()
    others = [{"retention_days": 1}, {"test_share": 0.2}, {"split_seed": 1}, {"near_duplicate_jaccard": 0.8}]
    assert len({base.digest(), *(CurationRecipe(**values).digest() for values in others)}) == 5
