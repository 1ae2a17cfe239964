"""Pages of a list: the query (`limit`, `order`, `after`), the page, and the row of a conversation."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

from mongars.errors import InputError

T = TypeVar("T")
MAX_PAGE = 100  # OpenAI's list endpoints take 1 to 100


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which part of a list: at most `limit` items that follow the item with id `after`, in `order`.

    Raises InputError for a limit outside 1 to 100 or an order that is neither `asc` nor `desc`.
    """

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None

    def __post_init__(self) -> None:
        """Check limit and order."""
        if not 1 <= self.limit <= MAX_PAGE:
            raise InputError(f"limit is {self.limit}.", remedy=f"Ask for 1 to {MAX_PAGE} items.", param="limit")
        if self.order not in ("asc", "desc"):
            raise InputError(f"order is {self.order!r}.", remedy="Use asc or desc.", param="order")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, in the requested order. `has_more` says whether items follow the last one."""

    data: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation in a list: with the number of its turns instead of the turns."""

    id: str
    user: str
    source: str
    consent: bool
    created_at: datetime
    turns: int
