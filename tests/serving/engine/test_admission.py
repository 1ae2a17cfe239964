import pytest

from mongars.errors import OverloadedError
from mongars.serving.engine.admission import Bound


def test_one_more_than_the_limit_is_refused_until_one_is_over():
    bound = Bound("chat", 2)
    bound.take()
    bound.take()
    with pytest.raises(OverloadedError, match="2 chat requests") as caught:
        bound.take()
    assert caught.value.retry_after_s >= 1
    bound.give()
    bound.take()
    assert bound.count == 2
