"""API keys: the user, scopes and consent to training of a caller.

The keys file has the SHA-256 of each key. A key has 256 random bits, so its hash needs no salt (NIST SP 800-63B,
section 5.1.2.2, requires salt and a slow hash only below 112 bits).
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from mongars import telemetry
from mongars.errors import AuthError, ForbiddenError, InputError, SettingsError, UnavailableError
from mongars.records import now
from mongars.storage.atomic import private_folder, write_atomically

SCOPES = ("chat", "admin")
PREFIX = "mg-"
KEY_BYTES = 32
OWNER_ONLY = 0o600
REMEDY = "Run: mongars keys create --user NAME"
_failures = telemetry.meter.create_counter(telemetry.AUTH_FAILURES)


class StoredKey(BaseModel):
    """One line of the keys file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    user: str
    scopes: tuple[str, ...]
    consent: bool
    created_at: datetime


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    keys: tuple[StoredKey, ...] = ()


class Principal(BaseModel):
    """The caller. `consent` means that the caller's conversations may be trained on."""

    model_config = ConfigDict(frozen=True)

    user: str
    scopes: tuple[str, ...]
    consent: bool

    def require(self, scope: str) -> None:
        """Raise ForbiddenError unless the key has the scope."""
        if scope not in self.scopes:
            raise ForbiddenError(
                f"This key lacks the scope {scope}.", remedy=f"Make one with: {_create(self.user, scope)}"
            )


def create_key(file: Path, user: str, scopes: Sequence[str] = ("chat",), consent: bool = False) -> str:
    """Add a key to the file, which is created if missing, and return it: only its hash is stored.

    Raises InputError for an empty user or an unknown scope, UnavailableError when the file is damaged.
    """
    if not user.strip():
        raise InputError("A key needs the name of its user.", param="user")
    if unknown := set(scopes) - set(SCOPES):
        raise InputError(f"Unknown scope {', '.join(sorted(unknown))}.", remedy=f"Known: {', '.join(SCOPES)}.")
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    stored = StoredKey(sha256=_hash(key), user=user, scopes=tuple(scopes), consent=consent, created_at=now())
    private_folder(file.parent)
    with FileLock(f"{file}.lock", timeout=10):
        before = _read(file).keys if file.exists() else ()
        data = _KeysFile(keys=(*before, stored)).model_dump_json(indent=2) + "\n"
        write_atomically(file, data.encode(), mode=OWNER_ONLY)
    return key


class KeyRing:
    """The keys of a file, reloaded when it changes: a removed key stops working at once."""

    def __init__(self, file: Path) -> None:
        """Read the file. Raises SettingsError when it does not exist."""
        if not file.exists():
            raise SettingsError(
                f"There is no keys file {file}, and the server is closed without one.", remedy=REMEDY
            )
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[StoredKey, ...] = ()
        self._refresh()

    def authenticate(self, header: str | None) -> Principal:
        """Return the caller of an `Authorization: Bearer <key>` header. Raises AuthError."""
        scheme, _, key = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            _failures.add(1, {"error.type": "missing"})
            raise AuthError("No API key was given.", remedy="Send the header: Authorization: Bearer KEY")
        self._refresh()
        presented, found = _hash(key.strip()), None
        for stored in self._keys:  # all of them, so that the time reveals nothing
            if hmac.compare_digest(stored.sha256, presented):
                found = stored
        if found is None:
            _failures.add(1, {"error.type": "unknown"})
            raise AuthError("This API key is not known.", remedy=REMEDY)
        return Principal(user=found.user, scopes=found.scopes, consent=found.consent)

    def _refresh(self) -> None:
        try:
            stat = self._file.stat()
        except FileNotFoundError:
            self._keys, self._seen = (), None
            return
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._keys, self._seen = _read(self._file).keys, seen


def _read(file: Path) -> _KeysFile:
    try:
        return _KeysFile.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise UnavailableError(
            f"The keys file {file} cannot be read ({type(error).__name__}).",
            remedy="Restore it, or remove it and create new keys.",
        ) from None


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _create(user: str, scope: str) -> str:
    return f"mongars keys create --user {user}" + (" --admin" if scope == "admin" else "")
