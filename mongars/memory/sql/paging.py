"""Pages of a list as SQL.

Owns how a `PageQuery` bounds a query. Must not know tables.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select

from mongars.memory.pages import PageQuery


def paged(query: Select[Any], key: ColumnElement[Any], page: PageQuery, after: str | int | None) -> Select[Any]:
    """Order by `key` and take one row more than the page holds, which tells whether others follow."""
    ascending = page.order == "asc"
    if after is not None:
        query = query.where(key > after if ascending else key < after)
    return query.order_by(key.asc() if ascending else key.desc()).limit(page.limit + 1)
