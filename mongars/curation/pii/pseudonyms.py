"""Keyed stand-ins for personal values and for people, and the secret behind them.

Owns the secret file and the HMAC. Must not know how personal data is found. The secret is never part of a dataset:
without it, a tag or a subject id can be neither reversed nor recomputed from a guess.
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
# 16 bits tell the few values of one person apart (two of ten e-mail addresses meet once in 1,500 people) and weigh
# little on a model's context.
TAG_HEX = 4
SUBJECT_HEX = 24
TAG = re.compile(rf"<[A-Z]{{2,8}}_[0-9a-f]{{{TAG_HEX}}}>")


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Tags of one subject: the same value gives the same tag in all that the subject said, and only there."""

    secret: bytes
    subject: str

    def tag(self, kind: str, value: str) -> str:
        """Return the tag of a value, whatever its case, and spacing or punctuation where it is a number."""
        plain = unicodedata.normalize("NFKC", value).casefold()
        written = "".join(char for char in plain if char.isalnum() or char == "@")
        return f"<{kind}_{_keyed(self.secret, 'tag', self.subject, kind, written)[:TAG_HEX]}>"


def subject_id(secret: bytes, user: str) -> str:
    """Return the id under which a user's rows are kept: stable, and meaningless without the secret."""
    return f"sub_{_keyed(secret, 'subject', user)[:SUBJECT_HEX]}"


def load_or_create_secret(path: Path) -> bytes:
    """Return the secret in `path`; when it is absent, make one that only its owner can read (mode 0600).

    Of several processes that start at once, one creates it and all return the same. Raises InputError when the
    file holds something else: a silently replaced secret would break every pseudonym so far.
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
            # A link, not a rename: it fails where another process was faster, and that secret then counts.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    return load_secret(path)


def load_secret(path: Path) -> bytes:
    """Return the secret in `path`. Raises InputError when there is none, or something else."""
    remedy = "Restore it from a backup; a new one would break the pseudonyms of every dataset so far."
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the secret in {path}.", remedy=remedy) from error
    if len(secret) != SECRET_BYTES:
        raise InputError(f"The secret in {path} is not {SECRET_BYTES} bytes long.", remedy=remedy)
    return secret


def _keyed(secret: bytes, *parts: str) -> str:
    """Return the HMAC-SHA256 of the parts in hex; each part carries its length, so that no two lists meet."""
    encoded = [part.encode() for part in parts]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
