"""What is checked before a Ray is started, and what is said when there is none."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from mongars.errors import ResourceError, UnavailableError
from mongars.serving import cluster
from mongars.settings import Settings


def test_with_enough_memory_and_disk_the_home_is_created(tmp_path: Path) -> None:
    cluster.check_resources(tmp_path / "var")
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700


def test_too_little_memory_is_refused_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30))
    with pytest.raises(ResourceError, match=r"Only 1\.0 GiB of memory are free; 3 GiB are needed"):
        cluster.check_resources(tmp_path)


def test_a_full_disk_is_refused_with_the_setting_that_moves_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    with pytest.raises(ResourceError, match="MONGARS_HOME"):
        cluster.check_resources(tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nowhere"])
def test_an_unreachable_ray_is_named_with_a_remedy(tmp_path: Path, address: str) -> None:
    settings = Settings(home=tmp_path).resolved()
    with pytest.raises(UnavailableError, match="make serve"):
        cluster.connect_to_ray(settings, address)


def test_a_local_ray_sets_the_environment_of_serve_unless_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(cluster.SERVE_ENVIRONMENT)
    monkeypatch.setenv(names[0], "operator")
    for name in names[1:]:
        monkeypatch.setenv(name, "")  # so that it is put back at the end
        monkeypatch.delenv(name)
    seen: dict[str, str | None] = {}
    monkeypatch.setattr(
        cluster.ray, "init", lambda **_: seen.update({name: os.environ.get(name) for name in names})
    )
    cluster.start_local_ray(Settings(home=tmp_path).resolved())
    assert seen == dict(cluster.SERVE_ENVIRONMENT) | {names[0]: "operator"}
