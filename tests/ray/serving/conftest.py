"""The whole application on the session's Ray, shared by the tests of this package."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from mongars.records import RegistryStatus
from mongars.registry import BaseSpec, Publication, PublishRequest
from mongars.registry.actor import BlockingRegistryClient
from mongars.settings import Settings

NAMESPACE = "mongars-serve-test"
TEXTS = ["hello there", "how are you today, and what is new?"]


@dataclass
class App:
    """The deployed application, its clients and what was published to it."""

    port: int
    settings: Settings
    sdk: openai.OpenAI  # of the administrator Ada
    other: openai.OpenAI  # of Bob
    http: httpx.Client  # of Ada, for what the SDK has no methods for
    registry: BlockingRegistryClient
    base: Any
    offline_vectors: Callable[..., Any]
    published: dict[str, Path] = field(default_factory=dict)
    replicas: int = 2

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, adapter: Any) -> Publication:
        ref, base = adapter.ref, BaseSpec.of(self.base.path)
        self.published[ref.digest] = adapter.folder
        return self.registry.publish(PublishRequest(adapter.folder, ref.name, base, ref.kind))

    def settle(self, generation: int) -> RegistryStatus:
        """Wait until all replicas serve `generation`."""
        names = [one.replica for one in self.registry.status().replicas]
        assert len(names) == self.replicas
        status = self.registry.wait_acknowledged(generation, names, 60)
        assert status.skew == 0
        return status

    def current(self, kind: str) -> str | None:
        digest = self.http.get("/v1/status").json()["current"].get(kind)
        return None if digest is None else str(digest)

    def expected_vectors(self, digest: str | None) -> Any:
        """Return the vectors of TEXTS by an encoder, made without the application."""
        return self.offline_vectors(self.published[digest] if digest else None, TEXTS)

    def embed_until(self, generation: int) -> list[Any]:
        """Embed repeatedly until all replicas serve `generation`, and return the answers."""
        patient, answers = self.sdk.with_options(max_retries=5), []
        deadline = time.monotonic() + 120
        while True:
            answers.append(patient.embeddings.create(model="mongars-encoder", input=TEXTS))
            response = self.http.get("/v1/status")
            loads = response.json()["loads"] if response.is_success else []
            if [load["generation"] for load in loads] == [generation] * self.replicas:
                return answers
            assert time.monotonic() < deadline, loads


@pytest.fixture(scope="package")
def app(
    ray_session, base_folder, base, offline_vectors, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """Deploy once, and shut Serve down after the last test of the package."""
    from ray import serve

    from mongars.serving.app import APP_NAME, AppArgs, deploy_ray_service
    from mongars.serving.http.auth import create_key

    home = tmp_path_factory.mktemp("home")
    settings = Settings(
        home=home, models_dir=home / "models", base_model=str(base_folder), ray_namespace=NAMESPACE
    ).resolved()
    key = create_key(settings.keys_file, "ada", ("chat", "admin"), consent=True)
    other = create_key(settings.keys_file, "bob")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    deploy_ray_service(AppArgs.from_settings(settings, llm_replicas=App.replicas), port=port)
    url = f"http://127.0.0.1:{port}"
    yield App(
        port=port,
        settings=settings,
        sdk=openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0),
        other=openai.OpenAI(base_url=f"{url}/v1", api_key=other, max_retries=0),
        http=httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30),
        registry=BlockingRegistryClient.connect(NAMESPACE),
        base=base,
        offline_vectors=offline_vectors,
    )
    serve.delete(APP_NAME)
    serve.shutdown()
