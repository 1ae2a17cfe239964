"""The file of scored pairs: read whole, or refused with what is wrong."""

import pytest

from mongars.errors import InputError
from mongars.evaluation.scored_pairs import read_scored_pairs


def test_pairs_and_scores_are_read_in_order_and_blank_lines_passed_over(tmp_path):
    path = tmp_path / "sts.csv"
    path.write_text('"A plane, taking off.",An air plane.,5.0\n\nA man plays.,  A dog runs. ,0.5\n')
    pairs = read_scored_pairs(path)
    assert pairs.left == ("A plane, taking off.", "A man plays.")
    assert pairs.right == ("An air plane.", "A dog runs.")
    assert pairs.scores.tolist() == [5.0, 0.5]


@pytest.mark.parametrize(
    ("content", "told"),
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
def test_a_file_that_is_no_list_of_scored_pairs_is_refused(tmp_path, content, told):
    path = tmp_path / "sts.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        read_scored_pairs(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv.*sentence,sentence,score"):
        read_scored_pairs(tmp_path / "nowhere.csv")
