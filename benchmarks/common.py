"""Shared by the benchmarks: exit codes, interleaved rounds with peers, and tables.

Results go to stdout, progress and errors to stderr.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from mongars.cli.output import Stages, emit, stages, write
from mongars.errors import MongarsError, UnavailableError
from mongars.records import Dtype

T = TypeVar("T")


def run(measure: Callable[[Stages], dict[str, Any]], show: Callable[[dict[str, Any]], str] | None) -> int:
    """Measure, print the result (as JSON without `show`), and return the exit code of `mongars`."""
    try:
        with stages() as progress:
            result = measure(progress)
    except MongarsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    if show is None:
        emit(result)
    else:
        write(show(result))
    return 0


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; line breaks and bars within cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def take_turns(
    ways: Mapping[str, Callable[[], object]], amount: int, repeats: int, progress: Stages, label: str
) -> dict[str, list[float]]:
    """Return the rates of each contender, `amount` per second, in `repeats` interleaved rounds after a warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        progress.stage(f"{label}, repeat {repeat} of {repeats}")
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if repeat:
                rates[name].append(amount / (time.perf_counter() - started))
    return rates


def on_own_thread(way: Callable[[], T]) -> T:
    """Run a contender on a thread of its own, so that its OpenMP threads end with it.

    Otherwise they would slow down the next contender: libgomp puts idle threads to sleep at once when a process
    has more of them than cores.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(way).result()


def as_asked(flags: argparse.Namespace) -> Any:
    """Return the base as our engine runs it. Raises SettingsError for an unsupported `--dtype`."""
    from mongars.lm.base import load_base, resolve_dtype

    return on_own_thread(lambda: load_base(flags.base, dtype=resolve_dtype(flags.dtype, "cpu"), packed=True))


def as_transformers_loads(base: Any) -> dict[str, Any]:
    """Return the base as transformers loads it, keyed by the suffix of the peer's name.

    Peers in this process run it in float32 and, where it differs, in the dtype of ours.
    """
    import torch
    from transformers import AutoModelForCausalLM

    loaded = {}
    for dtype in dict.fromkeys([torch.float32, base.model.dtype]):
        load = partial(AutoModelForCausalLM.from_pretrained, base.path, dtype=dtype, attn_implementation="sdpa")
        model = on_own_thread(load)
        loaded["" if dtype == torch.float32 else f", {dtype_name(base)}"] = replace(base, model=model.eval())
    return loaded


def dtype_name(base: Any) -> str:
    """Return the dtype of a base's weights, such as float32."""
    return str(base.model.dtype).removeprefix("torch.")


def peer_rates(python: str, script: Path, task: Mapping[str, Any], name: str) -> list[float]:
    """Return the rates that a script in another environment measures for `task`. Raises UnavailableError."""
    done = subprocess.run(
        [python, str(script)], input=json.dumps(task), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError(f"{name} failed: {done.stderr[-500:]}", remedy="See benchmarks/README.md.")
    rates: list[float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def rate_and_ratio(rates: Mapping[str, Sequence[float]], name: str, ours: str = "ours") -> tuple[str, str]:
    """Return the median rate, and the median ratio of ours to it with its minimum and maximum."""
    ratios = sorted(our / their for our, their in zip(rates[ours], rates[name], strict=True))
    ratio = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
    return f"{statistics.median(rates[name]):.1f}", "" if name == ours else ratio


def rate_flags(description: str) -> argparse.ArgumentParser:
    """Return the options shared by scripts that measure rates."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--base", required=True, help="folder of the base model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add the option that `as_asked` reads."""
    parser.add_argument("--dtype", choices=get_args(Dtype), default="auto", help="of our weights and states")


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", "<br>")
