"""Keyed pseudonyms for personal values and for users, and the secret that keys them.

The secret is never part of a dataset. Without it, nobody can reverse a tag or a subject id, or recompute it from a
guess.
"""

import hashlib
import hmac
import os
import re
import secrets
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from mongars.errors import InputError
from mongars.storage.atomic import private_folder, sync_folder

SECRET_BYTES = 32  # as long as the digest, RFC 2104 section 3
# 16 bits distinguish the few values of one user and cost few tokens.
TAG_HEX = 4
SUBJECT_HEX = 24
TAG = re.compile(rf"<[A-Z]{{2,8}}_[0-9a-f]{{{TAG_HEX}}}>")


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Tags of one subject. Equal values have equal tags; for another subject they have other tags."""

    secret: bytes
    subject: str

    def tag(self, kind: str, value: str) -> str:
        """Return the tag of a value; case, spacing and punctuation do not matter."""
        plain = unicodedata.normalize("NFKC", value).casefold()
        written = "".join(char for char in plain if char.isalnum() or char == "@")
        return f"<{kind}_{_keyed(self.secret, 'tag', self.subject, kind, written)[:TAG_HEX]}>"


def subject_id(secret: bytes, user: str) -> str:
    """Return the id of a user in datasets: stable, and meaningless without the secret."""
    return f"sub_{_keyed(secret, 'subject', user)[:SUBJECT_HEX]}"


def load_or_create_secret(path: Path) -> bytes:
    """Return the secret in `path`; if the file is missing, create one with mode 0600.

    If several processes start at once, one creates it and all return the same. Raises InputError when the file has
    other content: replacing a secret silently would break all existing pseudonyms.
    """
    if not path.exists():
        private_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_hex(SECRET_BYTES) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            # A link instead of a rename, because it fails if another process was first.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    return load_secret(path)


def load_secret(path: Path) -> bytes:
    """Return the secret in `path`. Raises InputError when it is missing or damaged."""
    remedy = "Restore it from a backup; a new one would break the pseudonyms of all existing datasets."
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the secret in {path}.", remedy=remedy) from error
    if len(secret) != SECRET_BYTES:
        raise InputError(f"The secret in {path} is not {SECRET_BYTES} bytes long.", remedy=remedy)
    return secret


def _keyed(secret: bytes, *parts: str) -> str:
    """Return the HMAC-SHA256 of the parts in hex; lengths are included so that no two lists are equal."""
    encoded = [part.encode() for part in parts]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
