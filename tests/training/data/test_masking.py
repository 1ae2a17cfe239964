from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.errors import TrainingError
from mongars.training.config import MNTPConfig
from mongars.training.data.masking import Masker, mask_token_id

SPECIAL = frozenset({0, 1, 2, 3})
MASK, VOCABULARY = 3, 50
ROWS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=60)


def masker(**options) -> Masker:
    return Masker(MNTPConfig(**options), mask_id=MASK, vocab_size=VOCABULARY, special=SPECIAL)


@given(ROWS, st.integers(0, 5))
def test_special_tokens_and_position_0_are_never_targets(ids: list[int], epoch: int):
    row = masker().mask("a", ids, epoch)
    assert 0 not in row.positions
    assert not SPECIAL & set(row.labels.tolist())


@given(ROWS)
def test_a_row_with_an_ordinary_token_after_position_0_has_a_target(ids: list[int]):
    row = masker(mask_share=0.01).mask("a", ids, 0)
    assert (row.positions.size > 0) == any(token not in SPECIAL for token in ids[1:])


@given(ROWS, st.integers(0, 2**40), st.integers(0, 5))
def test_only_targets_are_replaced_and_labels_are_the_true_tokens(ids: list[int], seed: int, epoch: int):
    row = masker(seed=seed).mask("a", ids, epoch)
    restored = row.ids.copy()
    restored[row.positions] = row.labels
    assert restored.tolist() == ids
    assert (row.ids[row.positions[row.hidden]] == MASK).all()
    assert not SPECIAL & set(row.ids[row.positions[~row.hidden]].tolist())


@given(ROWS)
def test_a_mask_does_not_depend_on_rows_masked_before(ids: list[int]):
    first, other = masker(), masker()
    other.mask("another row", ids, 7)
    assert first.mask("a", ids, 1).ids.tolist() == other.mask("a", ids, 1).ids.tolist()


def test_the_mask_of_a_seed_row_and_epoch_has_its_known_value():
    """Another mask would change every adapter that the same recipe gives."""
    row = masker().mask("row", range(4, 44), 1)
    assert row.positions.tolist() == [5, 8, 10, 17, 20, 24, 35, 36]
    assert row.ids[row.positions].tolist() == [3, 3, 3, 21, 3, 3, 3, 3]


def test_another_seed_row_or_epoch_gives_another_mask():
    ids = list(range(4, 50)) * 4
    masks = [
        masker(seed=seed).mask(row, ids, epoch).positions.tolist()
        for seed, row, epoch in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    ]
    assert len({tuple(mask) for mask in masks}) == 4


def test_a_fifth_of_tokens_is_masked_and_split_80_10_10():
    ids = np.tile(np.arange(4, 50), 1000)
    row = masker().mask("a", ids, 0)
    shown = row.ids[row.positions]
    assert row.positions.size / ids.size == pytest.approx(0.2, abs=0.01)
    assert row.hidden.mean() == pytest.approx(0.8, abs=0.01)
    assert (shown == row.labels).mean() == pytest.approx(0.1, abs=0.01)


def tokenizer(mask: int | None, **vocabulary: int) -> SimpleNamespace:
    class Fake(SimpleNamespace):
        def __len__(self) -> int:
            return VOCABULARY

    return Fake(mask_token_id=mask, get_vocab=lambda: vocabulary)


def test_mask_token_is_the_configured_one_else_the_tokenizers_else_underscore():
    assert mask_token_id(MNTPConfig(mask_token_id=9), tokenizer(3, _=5)) == 9
    assert mask_token_id(MNTPConfig(), tokenizer(3, _=5)) == 3
    assert mask_token_id(MNTPConfig(), tokenizer(None, _=5)) == 5


def test_without_a_usable_mask_token_the_error_names_the_option():
    with pytest.raises(TrainingError, match="mask_token_id"):
        mask_token_id(MNTPConfig(), tokenizer(None))
    with pytest.raises(TrainingError, match="outside the vocabulary"):
        mask_token_id(MNTPConfig(mask_token_id=VOCABULARY), tokenizer(3))
