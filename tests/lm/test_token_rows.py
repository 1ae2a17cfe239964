import torch

from mongars.lm.token_rows import PackedRows, PaddedRows, lay_out

ROWS = [[3, 4, 5], [6], [7, 8, 9]]


class Echo(torch.nn.Module):
    """An encoder whose states are its tokens, or their positions."""

    def forward(self, input_ids, position_ids=None, **_):
        self.positions = position_ids
        return type("Output", (), {"last_hidden_state": input_ids.unsqueeze(-1)})


def test_both_layouts_give_the_states_in_the_input_order_of_the_rows():
    for rows in (ROWS, sorted(ROWS, key=len)):
        given = [[token] for row in rows for token in row]
        for packing in (False, True):
            laid = lay_out(rows, packing=packing)
            assert laid.states(Echo()).tolist() == given
            assert laid.lengths == tuple(map(len, rows))


def test_packed_rows_are_one_row_sorted_by_length_without_padding():
    packed = PackedRows.of(ROWS)
    assert packed.input_ids.tolist() == [[6, 3, 4, 5, 7, 8, 9]]
    assert packed.position_ids.tolist() == [[0, 0, 1, 2, 0, 1, 2]]
    assert packed.runs == ((1, 1), (2, 3))
    assert packed.places == 7


def test_padded_rows_are_as_long_as_the_longest():
    padded = PaddedRows.of(ROWS)
    assert padded.input_ids.shape == (3, 3)
    assert padded.attention_mask.sum(dim=1).tolist() == [3, 1, 3]
    assert padded.places == 9
