"""Share of the engine's throughput that is left behind HTTP, authentication, memory, Cortex and Ray Serve.

    python benchmarks/ingress.py --base models/base/mongars-nano [--streams 16] [--repeats 3]

The same chats are streamed by an engine in this process, and by a server with one replica on its own Ray. Each
stream runs `--chats` chats in sequence. Rounds are interleaved and both contenders generate the same tokens: same
prompts, options and seeds. They load a copy of the base without an end token, so that every answer has its full
length: a small base ends its answers after a few words. Every chat of the server belongs to a user without
memories, whose turns are then stored and indexed; that is part of its cost.

Below the table is a bound: the ratio if no core of the machine had been idle in the server's rounds. Run nothing
else meanwhile, because all processor time of the machine is counted.
"""

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.common import markdown, on_own_thread, rate_and_ratio, rate_flags, run
from mongars.cli.output import Stages
from mongars.errors import UnavailableError

HOST = "127.0.0.1"
ANSWER_TOKENS = (32, 160)
"""Minimum and maximum tokens of an answer. With one length, all streams would start and end together."""
TEMPERATURE = 1.0
NOT_COMPUTING = ("idle", "iowait", "steal", "guest", "guest_nice")
QUESTION = "I would like to go out tonight with friends. What can you tell me about places number {number}?"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the rates of both contenders in generated tokens per second."""
    import torch

    from mongars.lm.base import load_base
    from mongars.lm.base_files import base_folder, base_model_digest, base_name
    from mongars.serving.app import AppArgs, deploy_ray_service
    from mongars.serving.cluster import ray_session
    from mongars.serving.engine.engine import Engine
    from mongars.serving.http.auth import create_key
    from mongars.settings import Settings

    torch.set_num_threads(flags.threads)
    rates: dict[str, list[float]] = {"engine": [], "server": []}
    computed: dict[str, list[float]] = {"engine": [], "server": []}
    with tempfile.TemporaryDirectory(prefix="mongars-ingress-") as place:
        home = Path(place)
        base = on_own_thread(lambda: load_base(endless_copy(base_folder(flags.base), home / "base"), packed=True))
        settings = Settings(home=home, models_dir=home / "models", base_model=str(base.path.resolve())).resolved()
        asked = flags.streams * flags.chats
        users = [create_key(settings.keys_file, f"user-{n}") for n in range(asked * (flags.repeats + 1))]
        args = AppArgs.from_settings(settings, llm_replicas=1).model_copy(update={"torch_threads": flags.threads})
        progress.stage("server")
        with ray_session(settings, None):
            deploy_ray_service(args, host=HOST, port=flags.port)
            engine = on_own_thread(lambda: Engine(base))
            for repeat in range(flags.repeats + 1):
                progress.stage(f"repeat {repeat} of {flags.repeats}")
                keys = users[repeat * asked : (repeat + 1) * asked]
                ways = {
                    "engine": bare(engine, flags.streams, asked),
                    "server": served(flags.port, flags.streams, keys),
                }
                tokens = {}
                for name, way in ways.items():
                    started, before = time.perf_counter(), processor_seconds()
                    tokens[name] = asyncio.run(way)
                    if repeat:  # the first round warms up
                        rates[name].append(sum(tokens[name]) / (time.perf_counter() - started))
                        computed[name].append(processor_seconds() - before)
                if tokens["engine"] != tokens["server"]:
                    raise UnavailableError(f"The contenders generated different lengths: {tokens}.")
            engine.close()
    return {
        "base": {"name": base_name(flags.base), "digest": base_model_digest(base_folder(flags.base))},
        "streams": flags.streams,
        "chats": flags.chats,
        "tokens": sum(tokens["engine"]),
        "threads": flags.threads,
        "cores": psutil.cpu_count(),
        "rates": rates,
        "processor_seconds": computed["server"],
    }


def show(result: dict[str, Any]) -> str:
    """Return a row per contender, and the bound."""
    rates, seconds, cores = result["rates"], result["processor_seconds"], result["cores"]
    rows = [[name, *rate_and_ratio(rates, name, ours="server")] for name in ("server", "engine")]
    unidled = [result["tokens"] / (spent / cores) for spent in seconds]
    _, bound = rate_and_ratio({"bound": unidled, "engine": rates["engine"]}, "engine", ours="bound")
    base = result["base"]
    return markdown(["contender", "tokens/s", "ratio of the server"], rows) + (
        f"\nWith no core idle: {bound}. "
        f"A round of the server used {statistics.median(seconds):.1f} processor seconds of {cores} cores.\n"
        f"Base {base['name']}, digest {base['digest'][:12]}; {result['streams']} streams of "
        f"{result['chats']} chats, {result['tokens']} tokens; {result['threads']} threads.\n"
    )


def processor_seconds() -> float:
    """Return the processor seconds that this machine has used since it started."""
    times = psutil.cpu_times()._asdict()
    # Time of guests is already counted in `user` and `nice` (man 5 proc).
    return float(sum(times.values()) - sum(times.get(name, 0) for name in NOT_COMPUTING))


def answer_tokens(number: int) -> int:
    """Return the length of the answer to a question: mixed, and the same in every round."""
    return random.Random(number).randint(*ANSWER_TOKENS)


def endless_copy(base: Path, target: Path) -> Path:
    """Copy a base such that only the padding token, which is never generated, would end an answer."""
    shutil.copytree(base, target)
    config = target / "generation_config.json"
    options = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(options | {"eos_token_id": options["pad_token_id"]}), encoding="utf-8")
    return target


async def bare(engine: Any, streams: int, asked: int) -> list[int]:
    """Answer every question with the bare engine; return the tokens of each answer."""
    from mongars.conversation.prompt import SYSTEM_PROMPT
    from mongars.records import GenerationRequest, Sampling, Turn

    async def answer(number: int) -> int:
        turns = (Turn("system", SYSTEM_PROMPT), Turn("user", QUESTION.format(number=number)))
        sampling = Sampling(max_tokens=answer_tokens(number), temperature=TEMPERATURE, seed=number)
        async with aclosing(engine.generate(GenerationRequest(str(number), turns, sampling))) as pieces:
            last = [piece async for piece in pieces][-1]
        return int(last.usage.completion_tokens)

    return await in_streams(streams, [answer(number) for number in range(asked)])


async def served(port: int, streams: int, keys: Sequence[str]) -> list[int]:
    """Ask the server every question, each with its own key; return the tokens of each answer.

    At the end the last user of each stream searches the memory, which waits until the turns are indexed: that work
    was started by the chats and is part of their cost.
    """
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=120) as http:
        tokens = await in_streams(streams, [_chat(http, key, number) for number, key in enumerate(keys)])
        last = list(enumerate(keys))[-streams:]
        found = await asyncio.gather(*(_search(http, key, number) for number, key in last))
    if not all(found):
        raise UnavailableError("The server does not find the turns that it stored.")
    return tokens


async def in_streams(streams: int, chats: Sequence[Coroutine[None, None, int]]) -> list[int]:
    """Return the results of all chats; stream n of `streams` runs the chats n, n + streams, ... in sequence."""

    async def one_stream(own: Sequence[Coroutine[None, None, int]]) -> list[int]:
        return [await chat for chat in own]

    by_stream = await asyncio.gather(*(one_stream(chats[first::streams]) for first in range(streams)))
    return [by_stream[number % streams][number // streams] for number in range(len(chats))]


async def _chat(http: httpx.AsyncClient, key: str, number: int) -> int:
    body = {
        "model": "mongars",
        "messages": [{"role": "user", "content": QUESTION.format(number=number)}],
        "max_tokens": answer_tokens(number),
        "temperature": TEMPERATURE,
        "seed": number,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"authorization": f"Bearer {key}"}
    async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        if not response.is_success:
            raise UnavailableError(f"The server answered {response.status_code}: {await response.aread()!r}.")
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: ")]
    return int(json.loads(lines[-2])["usage"]["completion_tokens"])  # the last one is [DONE]


async def _search(http: httpx.AsyncClient, key: str, number: int) -> list[Any]:
    body = {"query": QUESTION.format(number=number), "k": 1}
    response = await http.post("/v1/memory/search", json=body, headers={"authorization": f"Bearer {key}"})
    found: list[Any] = response.raise_for_status().json()["data"]
    return found


def _flags() -> argparse.ArgumentParser:
    parser = rate_flags("Measure generation throughput behind HTTP against the bare engine.")
    parser.set_defaults(threads=1)  # the default of a replica: the other processes need a core too
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--chats", type=int, default=4, help="chats of each stream, in sequence")
    parser.add_argument("--port", type=int, default=8124)
    return parser


if __name__ == "__main__":
    sys.exit(main())
