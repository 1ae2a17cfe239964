"""Small valid adapter folders."""

from collections.abc import Callable
from pathlib import Path

import pytest

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path, write_adapter: MakeFolder) -> MakeFolder:
    def make(seed: int = 0, **card: object) -> Path:
        return write_adapter(tmp_path / f"trained-{seed}", seed, **card)

    return make
