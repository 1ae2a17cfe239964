"""The bound on requests of a replica, and the error of a replica that closes."""

import threading

from mongars.errors import OverloadedError, UnavailableError


class AdmissionLimit:
    """Admits at most `limit` requests at a time, running or waiting. Methods may be called from any thread."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self.count = 0

    def acquire(self) -> None:
        """Admit a request. Raises OverloadedError at the limit."""
        with self._lock:
            if self.count >= self._limit:
                raise OverloadedError(
                    f"{self._limit} {self._name} requests are under way.", remedy="Try again soon."
                )
            self.count += 1

    def release(self) -> None:
        """End a request."""
        with self._lock:
            self.count -= 1


def closing_error() -> UnavailableError:
    """Return the error of requests that a closing replica ends."""
    return UnavailableError("This replica is closing.", remedy="Try again.")
