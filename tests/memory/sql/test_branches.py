from hypothesis import given
from hypothesis import strategies as st

from mongars.memory.sql.branches import current_path, is_on

# The parent of each message after the first, as a share of the messages before it; None follows the last one.
SHARES = st.lists(st.none() | st.floats(0, 1, exclude_max=True), max_size=30)


@given(SHARES)
def test_the_current_path_leads_from_the_last_message_to_the_first(shares):
    parents = {n: int(share * n) for n, share in enumerate(shares, start=1) if share is not None}
    position: int | None = len(shares)
    walked = set()
    while position is not None:
        walked.add(position)
        position = parents.get(position, position - 1) if position else None
    path = current_path(parents, len(shares))
    assert {n for n in range(len(shares) + 1) if is_on(path, n)} == walked
