"""A local Ray for a module of tests, and a checkout for those that act as a user does."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """Start a Ray of four logical CPUs in this process.

    A module's own, not the session's: the commands that find a running Ray by themselves must not find this one.
    """
    ray.init(address="local", num_cpus=4, namespace="mongars", include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


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
        os.utime(
            folder / name, (0, 0)
        )  # older than the stamp, or `make` would install the copy into our environment
    (folder / ".venv").symlink_to(ROOT / ".venv")
    # A pattern that ends in a slash does not match a link, and `ray job submit` would pack what is not ignored.
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/.venv\n")
    return folder
