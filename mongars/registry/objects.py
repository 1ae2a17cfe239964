"""Objects below a prefix in an S3-compatible store, with conditional writes.

Credentials, region and endpoint come from the AWS_ variables of the environment (AWS_ENDPOINT_URL for a
self-hosted store).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from mongars.errors import UnavailableError

RETRIES = 3
"""obstore's default is 10 within 3 minutes, longer than a replica should wait for one request."""
RETRY_TIMEOUT = timedelta(seconds=30)


class Objects:
    """Objects below an `s3://bucket/prefix`. All methods raise UnavailableError when the store cannot be used."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._translated():
            retry: Any = {"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT}
            self._store = from_url(self.url, retry_config=retry)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """Return an object and its ETag, or None if it does not exist."""
        with self._translated():
            try:
                found = obstore.get(self._store, key)
            except FileNotFoundError:
                self._check_bucket()
                return None
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def head(self, key: str) -> tuple[int, str] | None:
        """Return an object's size in bytes and its ETag, or None if it does not exist."""
        with self._translated():
            try:
                found = obstore.head(self._store, key)
            except FileNotFoundError:
                return None
            return found["size"], str(found["e_tag"])

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object."""
        with self._translated():
            obstore.put(self._store, key, data)

    def put_if(self, key: str, data: bytes, tag: str | None) -> bool:
        """Write an object if the stored one has the ETag `tag`, for None if none exists; return whether it did."""
        with self._translated():
            try:
                obstore.put(self._store, key, data, mode="create" if tag is None else {"e_tag": tag})
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """Return the keys in the folder `prefix`, at any depth."""
        with self._translated():
            return [meta["path"] for page in obstore.list(self._store, prefix=prefix) for meta in page]

    def delete(self, keys: list[str]) -> None:
        """Delete objects; one that is gone already is no error."""
        with self._translated():
            obstore.delete(self._store, keys)

    def _check_bucket(self) -> None:
        """Raise for a bucket that does not exist: a GET of an object cannot distinguish it from an empty one."""
        next(iter(obstore.list(self._store, prefix="-")), None)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError, PermissionError) as error:
            said = str(error).strip().splitlines()[0]  # the rest is obstore's debugging output
            raise UnavailableError(
                f"The object store {self.url} cannot be used: {said}",
                remedy="Check the bucket, and the AWS_ variables in the environment of every node.",
            ) from None
