"""A checkout for tests that act as a user does."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of this checkout as a clone would have it, with the virtual environment of the original."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    assert (ROOT / ".venv" / ".installed").exists(), "Run `make install` first."
    for name in ("pyproject.toml", "requirements.lock"):
        # Older than the stamp, or `make` would install the copy into our environment.
        os.utime(folder / name, (0, 0))
    (folder / ".venv").symlink_to(ROOT / ".venv")
    # A pattern that ends in a slash does not match a link, and `ray job submit` would pack what is not ignored.
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/.venv\n")
    return folder
