"""The file of scored pairs is read as a whole, or refused with the reason."""

import pytest

from mongars.errors import InputError
from mongars.evaluation.scored_pairs import read_scored_pairs


def test_pairs_are_read_in_order_without_blank_lines(tmp_path):
    path = tmp_path / "sts.csv"
    path.write_text('"A plane, taking off.",An air plane.,5.0\n\nA man plays.,  A dog runs. ,0.5\n')
    pairs = read_scored_pairs(path)
    assert pairs.left == ("A plane, taking off.", "A man plays.")
    assert pairs.right == ("An air plane.", "A dog runs.")
    assert pairs.scores.tolist() == [5.0, 0.5]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b,1\nc,d\n", "sentence, sentence, score"),
        (b"sentence1,sentence2,score\na,b,1\n", "sentence, sentence, score"),
        (b"a,b,1\n\xff,d,2\n", "sentence, sentence, score"),
        (b"a,b,1\n ,d,2\n", "without a sentence"),
        (b"a,b,1\nc,d,1\n", "different scores"),
        (b"a,b,1\nc,d,nan\n", "different scores"),
        (b"", "different scores"),
    ],
)
def test_a_file_in_another_format_is_refused_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "sts.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_scored_pairs(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv.*sentence,sentence,score"):
        read_scored_pairs(tmp_path / "nowhere.csv")
