import pytest

from mongars.errors import OverloadedError
from mongars.serving.engine.admission import AdmissionLimit


def test_one_more_than_the_limit_is_refused_until_one_is_over():
    bound = AdmissionLimit("chat", 2)
    bound.acquire()
    bound.acquire()
    with pytest.raises(OverloadedError, match="2 chat requests") as caught:
        bound.acquire()
    assert caught.value.retry_after_s >= 1
    bound.release()
    bound.acquire()
    assert bound.count == 2
