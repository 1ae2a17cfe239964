"""Cost of a publication: time until the last replica serves it, and latency of requests meanwhile.

    python benchmarks/swap.py --base models/base/mongars-nano [--replicas 4] [--publishes 20]

A server on its own Ray answers clients that embed and chat. Quiet periods and periods of publications alternate; a
publication is timed from the call until every replica has acknowledged it. The table gives the median and maximum
of these times, and the request latencies in both kinds of period with their ratio. Adapters are LoRA with small
random weights.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.common import markdown, run
from mongars.cli.output import Stages
from mongars.errors import UnavailableError

HOST = "127.0.0.1"
SETTLE_S = 60.0
TEXTS = [
    "Book a table for two in Oakland.",
    "Is there a bus on Friday?",
    "What is on at the cinema?",
    "Yes, please.",
]
CHAT_TOKENS = 16


@dataclass
class Clients:
    """Clients on a thread, half embedding and half chatting; records (kind, period, seconds) of each request."""

    url: str
    key: str
    count: int
    stretch: str = "warm-up"
    latencies: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Clients":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as http:
            await asyncio.gather(*(self._client(http, "embed" if n % 2 else "chat") for n in range(self.count)))

    async def _client(self, http: httpx.AsyncClient, kind: str) -> None:
        while not self._over.is_set():
            stretch, started = self.stretch, time.perf_counter()
            try:
                answer = await (_embed(http) if kind == "embed" else _chat(http))
                answer.raise_for_status()
            except httpx.HTTPStatusError as error:
                self.failures.append(f"{error}: {error.response.text}")
                continue
            except httpx.HTTPError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                continue
            if stretch == self.stretch:  # a request that spans two periods belongs to neither
                self.latencies.setdefault((kind, stretch), []).append(time.perf_counter() - started)


async def _embed(http: httpx.AsyncClient) -> httpx.Response:
    return await http.post("/v1/embeddings", json={"model": "mongars-encoder", "input": TEXTS})


async def _chat(http: httpx.AsyncClient) -> httpx.Response:
    messages = [{"role": "user", "content": TEXTS[0]}]
    body = {"model": "mongars", "messages": messages, "max_tokens": CHAT_TOKENS}
    return await http.post("/v1/chat/completions", json=body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the seconds of each publication and of each request."""
    from mongars.lm.base_files import base_name
    from mongars.registry import BaseSpec, PublishRequest
    from mongars.registry.actor import BlockingRegistryClient
    from mongars.serving.app import AppArgs, deploy_ray_service
    from mongars.serving.cluster import ray_session
    from mongars.serving.http.auth import create_key
    from mongars.settings import Settings

    base = Path(flags.base).resolve()
    with tempfile.TemporaryDirectory(prefix="mongars-swap-") as place:
        home = Path(place)
        settings = Settings(home=home, models_dir=home / "models", base_model=str(base)).resolved()
        key = create_key(settings.keys_file, "owner", ("chat", "admin"))
        progress.stage("adapters")
        adapters = make_adapters(base, home / "made", flags.publishes)
        progress.stage("server")
        with ray_session(settings, None):
            deploy_ray_service(
                AppArgs.from_settings(settings, llm_replicas=flags.replicas), host=HOST, port=flags.port
            )
            registry = BlockingRegistryClient.connect(settings.ray_namespace)
            replicas = [each.replica for each in registry.status().replicas]
            if len(replicas) != flags.replicas:
                raise UnavailableError(f"{len(replicas)} of {flags.replicas} replicas answer.")
            spec = BaseSpec.of(base)
            publications: list[float] = []
            with Clients(f"http://{HOST}:{flags.port}", key, flags.clients) as clients:
                time.sleep(flags.quiet)  # the first requests of a process are slower than the rest
                for number, adapter in enumerate(adapters):
                    if number % flags.turn == 0:
                        progress.stage(f"quiet, then publications {number + 1} to {number + flags.turn}")
                        clients.stretch = "quiet"
                        time.sleep(flags.quiet)
                        clients.stretch = "publishing"
                    started = time.perf_counter()
                    published = registry.publish(PublishRequest(adapter, "swap", spec))
                    status = registry.wait_acknowledged(published.generation, replicas, SETTLE_S)
                    publications.append(time.perf_counter() - started)
                    if status.skew:
                        raise UnavailableError(f"Generation {published.generation} did not reach every replica.")
                    progress.update(number % flags.turn + 1, flags.turn)
        return {
            "base": {"name": base_name(base), "digest": spec.digest},
            "replicas": flags.replicas,
            "clients": flags.clients,
            "publications": publications,
            "latencies": {f"{kind}, {stretch}": each for (kind, stretch), each in clients.latencies.items()},
            "failures": clients.failures,
        }


def show(result: dict[str, Any]) -> str:
    """Return the publication times, and a row per kind of request."""
    times, rows = result["publications"], []
    for kind in ("embed", "chat"):
        quiet, busy = (result["latencies"].get(f"{kind}, {stretch}", []) for stretch in ("quiet", "publishing"))
        if not quiet or not busy:
            continue
        cells = [kind, len(quiet), len(busy)]
        for share in (0.5, 0.99):
            one, other = float(np.quantile(quiet, share)), float(np.quantile(busy, share))
            cells.append(f"{one * 1e3:.0f} ms, {other * 1e3:.0f} ms: {other / one:.2f}")
        rows.append(cells)
    columns = ["request", "in quiet", "while publishing", "median quiet, publishing: ratio", "p99 the same"]
    return (
        f"Publish to last of {result['replicas']} replicas: median {statistics.median(times):.2f} s, maximum "
        f"{max(times):.2f} s, of {len(times)}. Failed requests: {len(result['failures'])}.\n\n"
        + markdown(columns, rows)
        + f"\nBase {result['base']['name']}, {result['base']['digest'][:12]}; {result['clients']} clients.\n"
        + "".join(f"Failed: {failure}\n" for failure in sorted(set(result["failures"])))
    )


def make_adapters(base: Path, place: Path, count: int) -> list[Path]:
    """Write distinct encoder adapters with small random weights for a base."""
    import torch
    from peft import LoraConfig, get_peft_model

    from mongars.lm.base import load_base
    from mongars.lm.base_files import base_name
    from mongars.neurons.bidirectional import bidirectional_encoder
    from mongars.records import DatasetRef
    from mongars.training.config import MNTPConfig
    from mongars.training.runtime.adapter_writer import adapter_card, write_adapter

    loaded, config = load_base(base), MNTPConfig()
    dataset = DatasetRef("none", "v0", "0" * 64, "ready", 0)
    lora = LoraConfig(
        r=config.lora_rank, target_modules=list(config.target_modules), task_type="FEATURE_EXTRACTION"
    )
    folders = []
    for number in range(count):
        torch.manual_seed(number)
        adapted = get_peft_model(bidirectional_encoder(loaded), lora)
        adapted.peft_config["default"].base_model_name_or_path = base_name(base)
        weights = {
            name: torch.randn_like(tensor) * 0.02 for name, tensor in adapted.named_parameters() if "lora_" in name
        }
        card = adapter_card(config.model_copy(update={"seed": number}), dataset, loaded, base_name(base), {})
        folders.append(place / str(number))
        write_adapter(folders[-1], adapted, weights, card)
    return folders


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the cost of a publication under load.")
    parser.add_argument("--base", required=True, help="folder of the base model")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--publishes", type=int, default=20)
    parser.add_argument("--turn", type=int, default=5, help="publications between two quiet periods")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds of a quiet period")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
