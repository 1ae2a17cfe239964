"""Branches of a conversation: an edited question, or an answer that was generated again.

Messages have positions in the order in which they were stored. A message follows the one before it, unless its
`parent` names another position: then it begins a branch, and what followed the parent so far is left behind. The
current path leads from the last message back to the first one.
"""

from collections.abc import Mapping

Range = tuple[int, int]
"""First and last position, both included."""


def current_path(parents: Mapping[int, int], last: int) -> list[Range]:
    """Return the positions of the current path, newest range first.

    `parents` has the parent of each message that begins a branch, by its position; `last` is the newest position.
    """
    ranges: list[Range] = []
    end = last
    while True:
        start = max((position for position in parents if position <= end), default=0)
        ranges.append((start, end))
        if start not in parents:
            return ranges
        end = parents[start]


def is_on(path: list[Range], position: int) -> bool:
    """Return whether a position is on a path."""
    return any(start <= position <= end for start, end in path)
