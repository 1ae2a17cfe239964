"""Publishing through a server waits for its replicas."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from mongars.errors import UnavailableError
from mongars.registry import AdapterRegistry
from mongars.settings import Settings
from mongars.workflows.publish import publish


class Server:
    """A registry of storage with one replica, which acknowledges the generation `reached`."""

    def __init__(self, folder: Path, reached: int) -> None:
        self.publish = AdapterRegistry(folder).publish
        self._replica = SimpleNamespace(replica="one", generation=reached)

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(replicas=(self._replica,))

    def wait_acknowledged(self, _generation: int, _replicas: object, timeout_s: float) -> SimpleNamespace:
        assert timeout_s == 5
        return self.status()


@pytest.mark.parametrize("reached", [0, 1])
def test_publish_returns_the_replicas_or_reports_those_that_are_late(
    tmp_path: Path, base_folder: Path, make_adapter, monkeypatch: pytest.MonkeyPatch, reached: int
) -> None:
    settings = Settings(home=tmp_path, models_dir=tmp_path, base_model=str(base_folder))
    server = Server(settings.encoders_dir, reached)
    monkeypatch.setattr("mongars.serving.cluster.ray_session", lambda _settings, _address: nullcontext())
    monkeypatch.setattr("mongars.registry.actor.BlockingRegistryClient.connect", lambda _: server)
    folder = make_adapter(8).folder
    if not reached:
        with pytest.raises(UnavailableError, match="one"):
            publish(settings, folder, "ours", ray="auto", timeout_s=5)
        return
    done = publish(settings, folder, "ours", ray="auto", timeout_s=5)
    assert (done.publication.generation, done.replicas) == (1, ("one",))
