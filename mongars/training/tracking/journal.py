"""What could not be told yet, in a file of JSON lines.

Owns the file: whole lines, flushed to disk, removed when it is empty. Must not know what an event means.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mongars.storage.atomic import write_atomically

Event = Mapping[str, Any]


class Journal:
    """Events in their order. One process writes to it at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole = False

    def __bool__(self) -> bool:
        """Say whether it holds anything."""
        return self.path.exists()

    def append(self, event: Event) -> None:
        """Add an event, and flush it to disk. Raises OSError."""
        if not self._whole:
            self.replace(self.read())  # a line that a killed process left half would swallow the next one
            self._whole = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(_line(event))
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> list[Event]:
        """Return the events; a last line that is not whole is none."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self else []
        return [json.loads(line) for line in lines]

    def replace(self, events: Sequence[Event]) -> None:
        """Hold these events and no others, atomically."""
        if events:
            write_atomically(self.path, b"".join(map(_line, events)))
        else:
            self.path.unlink(missing_ok=True)


def _line(event: Event) -> bytes:
    return json.dumps(event).encode() + b"\n"
