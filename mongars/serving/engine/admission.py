"""Whether a replica takes one more request.

Owns the count, and the error of a replica that ends. Must not know what the requests are.
"""

import threading

from mongars.errors import OverloadedError, UnavailableError


class AdmissionLimit:
    """At most `limit` at a time, running or waiting. Every method may be called from any thread."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self.count = 0

    def acquire(self) -> None:
        """Count one more. Raises OverloadedError at the limit."""
        with self._lock:
            if self.count >= self._limit:
                raise OverloadedError(
                    f"{self._limit} {self._name} requests are under way.", remedy="Try again soon."
                )
            self.count += 1

    def release(self) -> None:
        """Count one less."""
        with self._lock:
            self.count -= 1


def closing_error() -> UnavailableError:
    """Return what a request is told whose replica ends."""
    return UnavailableError("This replica is closing.", remedy="Try again.")
