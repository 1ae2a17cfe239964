"""Pages of a query."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select

from mongars.memory.pages import Page, PageQuery

T = TypeVar("T")


def read_page(
    connection: Connection,
    query: Select[Any],
    key: ColumnElement[Any],
    page: PageQuery,
    after: str | int | None,
    record: Callable[[Row[Any]], T],
) -> Page[T]:
    """Return the page of a query's rows that follows `after` in the order of `key`, as records."""
    ascending = page.order == "asc"
    if after is not None:
        query = query.where(key > after if ascending else key < after)
    # One more row than the page has shows whether others follow.
    rows = connection.execute(query.order_by(key.asc() if ascending else key.desc()).limit(page.limit + 1)).all()
    return Page(tuple(map(record, rows[: page.limit])), has_more=len(rows) > page.limit)
