import pytest

from mongars.errors import OverloadedError
from mongars.serving.engine.admission import AdmissionLimit


def test_a_request_over_the_limit_is_refused_until_one_ends():
    limit = AdmissionLimit("chat", 2)
    limit.acquire()
    limit.acquire()
    with pytest.raises(OverloadedError, match="2 chat requests") as caught:
        limit.acquire()
    assert caught.value.retry_after_s >= 1
    limit.release()
    limit.acquire()
    assert limit.count == 2
