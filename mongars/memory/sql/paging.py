"""Pages of a query."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, false, or_

from mongars.memory.pages import Page, PageQuery

T = TypeVar("T")


def read_page(
    connection: Connection,
    query: Select[Any],
    keys: Sequence[ColumnElement[Any]],
    page: PageQuery,
    after: Sequence[Any] | None,
    record: Callable[[Row[Any]], T],
) -> Page[T]:
    """Return the page of a query's rows that follows the values `after` in the order of `keys`, as records."""
    ascending = page.order == "asc"
    if after is not None:
        query = query.where(_follows(keys, after, ascending=ascending))
    # One more row than the page has shows whether others follow.
    order = [key.asc() if ascending else key.desc() for key in keys]
    rows = connection.execute(query.order_by(*order).limit(page.limit + 1)).all()
    return Page(tuple(map(record, rows[: page.limit])), has_more=len(rows) > page.limit)


def _follows(keys: Sequence[ColumnElement[Any]], after: Sequence[Any], *, ascending: bool) -> ColumnElement[bool]:
    if not keys:
        return false()
    key, value = keys[0], after[0]
    is_beyond = key > value if ascending else key < value
    return or_(is_beyond, and_(key == value, _follows(keys[1:], after[1:], ascending=ascending)))
