"""Training throughput of MNTP: one and two of our workers against llm2vec's own script, all in one run.

    python benchmarks/mntp.py --base models/base/mongars-nano --data conversations.jsonl [--llm2vec FOLDER]

A rate is real tokens per second of wall time, without padding, over the steps after the warm-up: sampling, masking
and batching are included, start-up is not. Every measurement is a process of its own (two for two workers), and
rounds are interleaved. Ours runs as under Ray Train: `run_worker` with DeepSpeed on a gloo process group.
llm2vec's run_mntp.py runs unchanged in its own environment (see benchmarks/README.md), once with one text per line
and once with its default, texts concatenated and cut into full rows.

The second rate is tokens per second of processor time, of the first worker where there are two: the steadier
figure on a machine with other load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.common import markdown, rate_and_ratio, rate_flags, run
from benchmarks.embedding import older_copy
from mongars.cli.output import Stages
from mongars.errors import InputError, UnavailableError
from mongars.formats.jsonl import BadLine, read_conversations
from mongars.lm.base_files import base_model_digest, base_name
from mongars.records import DatasetRef
from mongars.training.config import MNTPConfig
from mongars.training.data.sampler import global_batch
from mongars.training.data.tokenize import TokenTable, load_tokenizer, token_ids
from mongars.training.runtime.job import TrainingJob

PEER_SCRIPT = Path(__file__).with_name("peers") / "llm2vec_mntp.py"
ONE, TWO = "ours", "ours, two workers"


@dataclass(frozen=True)
class Rate:
    """Real tokens per second: of wall time, and of a worker's processor time."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Setting:
    """The setting shared by all contenders."""

    base: Path
    texts: Path
    rows: TokenTable
    config: MNTPConfig
    skip: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the rates of every contender in real tokens per second of wall time and of processor time."""
    with tempfile.TemporaryDirectory(prefix="mongars-mntp-") as place:
        setting = _setting(flags, Path(place))
        ways: dict[str, Callable[[], Rate]] = {
            ONE: partial(our_rate, setting, workers=1),
            TWO: partial(our_rate, setting, workers=2),
            "ours, padded": partial(our_rate, setting, workers=1, packing=False),
        }
        if flags.llm2vec:
            base = copy_for_llm2vec(Path(flags.base), Path(place) / "base")
            theirs = partial(llm2vec_rate, setting, flags.llm2vec, base)
            ways["run_mntp.py, one text per line"] = partial(theirs, line_by_line=True)
            ways["run_mntp.py, texts concatenated"] = partial(theirs, line_by_line=False)
        found: dict[str, list[Rate]] = {name: [] for name in ways}
        for repeat in range(flags.repeats):
            for name, way in ways.items():
                progress.stage(f"repeat {repeat + 1} of {flags.repeats}: {name}")
                found[name].append(way())
    lengths = sorted(setting.rows.lengths)
    return {
        "base": {"name": base_name(flags.base), "digest": base_model_digest(Path(flags.base))},
        "rows": len(lengths),
        "tokens": {"least": lengths[0], "median": lengths[len(lengths) // 2], "most": lengths[-1]},
        "batch_rows": flags.batch_rows,
        "steps": flags.steps,
        "threads": flags.threads,
        "rates": {name: [each.wall for each in rates] for name, rates in found.items()},
        "processor": {name: [each.processor for each in rates] for name, rates in found.items()},
    }


def show(result: dict[str, Any]) -> str:
    """Return a table with a row per contender."""
    rates, times, tokens, base = result["rates"], result["processor"], result["tokens"], result["base"]
    scaling, bound = (rate_and_ratio(each, ONE, ours=TWO)[1] for each in (rates, times))
    return (
        markdown(
            [
                "way",
                "real tokens/s",
                "ratio of ours",
                "of processor time",
                "ratio of ours",
            ],
            [[name, *rate_and_ratio(rates, name), *rate_and_ratio(times, name)] for name in rates],
        )
        + f"\nTwo workers are {scaling} times one; by a worker's processor time {bound}.\n"
        f"\nBase {base['name']}, digest {base['digest'][:12]}; {result['threads']} threads a worker; "
        f"{result['steps']} steps of {result['batch_rows']} rows, of {result['rows']} conversations of "
        f"{tokens['least']} to {tokens['most']} tokens, median {tokens['median']}.\n"
    )


def our_rate(setting: Setting, *, workers: int, packing: bool = True) -> Rate:
    """Return the rate of our workers, each a process."""
    import torch.multiprocessing

    os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed would otherwise log to stdout, which is for the result
    config = setting.config.model_copy(update={"workers": workers, "packing": packing})
    digest = base_model_digest(setting.base)
    dataset = DatasetRef("benchmark", "1", "0" * 64, "ready", len(setting.rows))
    with tempfile.TemporaryDirectory(prefix="mongars-mntp-") as place:
        job = TrainingJob(config, dataset, setting.base, "base", digest, Path(place) / "adapter")
        task = (workers, f"{place}/meeting", job, setting.rows, setting.skip, Path(place) / "seconds")
        torch.multiprocessing.spawn(work, task, nprocs=workers)
        seconds, busy = json.loads(task[-1].read_text())
    tokens = tokens_of_steps(setting.rows, config, range(setting.skip, config.steps))
    return Rate(tokens / seconds, tokens / busy)


def work(rank: int, world: int, meeting: str, job: TrainingJob, rows: TokenTable, skip: int, answer: Path) -> None:
    """Train as one worker; rank 0 writes the duration of the steps after `skip`."""
    import torch

    from mongars.training.worker import run_worker

    os.dup2(2, 1)  # stdout is for the result, and DeepSpeed logs to it
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}  # DeepSpeed reads them
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    ends: list[tuple[float, float]] = []

    def on_step(_: object) -> None:
        ends.append((time.perf_counter(), time.process_time()))

    run_worker(job, rows, rank=rank, device=torch.device("cpu"), report=on_step)
    if rank == 0:
        spans = [end - start for start, end in zip(ends[skip - 1], ends[-1], strict=True)]
        answer.write_text(json.dumps(spans))
    torch.distributed.barrier()  # a rank that exits early would break the last collective of the other
    torch.distributed.destroy_process_group()
    os._exit(0)  # a normal exit can abort in Gloo's thread (see tests/training/processes.py)


def tokens_of_steps(rows: TokenTable, config: MNTPConfig, steps: range) -> int:
    """Return the number of tokens in the rows of some steps."""
    lengths = rows.lengths
    options = {"rows": len(rows), "batch_rows": config.batch_rows, "seed": config.seed}
    return sum(lengths[place.row] for step in steps for place in global_batch(step, **options))


def llm2vec_rate(setting: Setting, folder: Path, base: Path, *, line_by_line: bool) -> Rate:
    """Return the rate of llm2vec's script with our recipe as its configuration."""
    config = setting.config
    arguments = {
        "model_name_or_path": str(base),
        "train_file": str(setting.texts),
        "line_by_line": line_by_line,
        "max_seq_length": config.max_tokens,
        "mlm_probability": config.mask_share,
        "lora_r": config.lora_rank,
        "lora_dropout": config.lora_dropout,
        "learning_rate": config.learning_rate,
        "max_grad_norm": config.clip_norm,
        "per_device_train_batch_size": config.batch_rows,
        "stop_after_n_steps": config.steps,
        "seed": config.seed,
        "do_train": True,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    threads = str(config.threads)
    task: dict[str, Any] = {"script": str(folder / "experiments" / "run_mntp.py"), "threads": config.threads}
    task |= {"arguments": arguments, "skip": setting.skip}
    tokens, seconds, busy = _peer(task, folder, threads, setting.texts)
    return Rate(tokens / seconds, tokens / busy)


def copy_for_llm2vec(base: Path, target: Path) -> Path:
    """Copy a base for transformers 4.44, where merges are "left right" and Llama takes no token types."""
    older_copy(base, target)
    with _changed(target / "tokenizer.json") as content:
        merges = content["model"].get("merges", [])
        content["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    with _changed(target / "tokenizer_config.json") as content:
        content["model_input_names"] = ["input_ids", "attention_mask"]
    return target


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    yield content
    path.write_text(json.dumps(content), encoding="utf-8")


def _peer(task: Mapping[str, Any], folder: Path, threads: str, texts: Path) -> list[float]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(folder / name) for name in ("OVER", "llm2vec-0.2.3")),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(texts.parent / "hub"),
        "OMP_NUM_THREADS": threads,
    }
    command = [sys.executable, str(PEER_SCRIPT)]
    done = subprocess.run(
        command, input=json.dumps(task), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UnavailableError(f"llm2vec failed: {done.stderr[-500:]}", remedy="See benchmarks/README.md.")
    spans: list[float] = json.loads(done.stdout.splitlines()[-1])
    return spans


def _setting(flags: argparse.Namespace, place: Path) -> Setting:
    """Read the conversations once, as token ids for us and as texts for llm2vec."""
    config = MNTPConfig(
        workers=1,
        threads=flags.threads,
        batch_rows=flags.batch_rows,
        steps=flags.skip + flags.steps,
        checkpoint_steps=flags.skip + flags.steps,
        seed=flags.seed,
    )
    tokenizer = load_tokenizer(flags.base)
    data = Path(flags.data)
    found = (each for each in read_conversations(data) if not isinstance(each, BadLine))
    rows, texts = [], place / "texts.json"
    with texts.open("w", encoding="utf-8") as written:
        for conversation in islice(found, flags.rows):
            messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
            ids = token_ids(tokenizer, messages, config.max_tokens)
            rows.append((conversation.id, ids))
            written.write(json.dumps({"text": tokenizer.decode(ids)}) + "\n")
    if not rows:
        raise InputError(f"{data} has no conversation.", remedy="Give JSON Lines of conversations.", param="data")
    return Setting(Path(flags.base), texts, TokenTable.of(rows), config, flags.skip)


def _flags() -> argparse.ArgumentParser:
    parser = rate_flags("Measure the training throughput of MNTP against llm2vec's script.")
    parser.set_defaults(threads=1)
    parser.add_argument("--data", required=True, help="JSON Lines of conversations, plain or gzip")
    parser.add_argument("--rows", type=int, default=1000, help="number of conversations to read")
    parser.add_argument("--batch-rows", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="number of steps to measure")
    parser.add_argument("--skip", type=int, default=2, help="warm-up steps")
    parser.add_argument("--llm2vec", type=Path, help="folder of OVER, llm2vec-0.2.3 and experiments/run_mntp.py")
    return parser


if __name__ == "__main__":
    sys.exit(main())
