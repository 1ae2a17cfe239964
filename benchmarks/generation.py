"""Generation throughput: our batching against transformers and vLLM, all in one run.

    python benchmarks/generation.py --base models/base/mongars-nano [--streams 16 --streams 32] [--dtype bfloat16]

Prompts and answers have mixed lengths, the same for every contender: random tokens, because only the lengths
matter, and answers that never end early. A rate is generated tokens per second over all streams, from the first
prompt to the last token. Rounds are interleaved, `--repeats` times; the table gives the ratio of ours to each,
with its minimum and maximum. With `--dtype bfloat16` ours runs in bfloat16, and each peer in float32 and in
bfloat16. vLLM runs in a separate environment, whose Python is given by `--vllm` (see benchmarks/README.md).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    add_dtype,
    as_asked,
    as_transformers_loads,
    dtype_name,
    markdown,
    on_own_thread,
    peer_rates,
    rate_and_ratio,
    rate_flags,
    run,
    take_turns,
)
from mongars.cli.output import Stages
from mongars.errors import UnavailableError

PROMPT_TOKENS = (16, 160)
ANSWER_TOKENS = (16, 128)
STREAMS = (16, 32)
VLLM_SCRIPT = Path(__file__).with_name("peers") / "vllm_generation.py"

Work = list[tuple[list[int], int]]  # (prompt, length of the answer) of each stream
Way = Callable[[Any, Work], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the rate of every contender in generated tokens per second."""
    progress.stage("load")
    import torch

    from mongars.lm.base_files import base_name

    torch.set_num_threads(flags.threads)
    base = as_asked(flags)
    peers = as_transformers_loads(base)
    results = []
    for streams in flags.streams or STREAMS:
        work = make_work(streams, len(base.tokenizer), seed=flags.seed)
        tokens = sum(length for _, length in work)
        ways = {"ours": partial(on_own_thread, partial(ours, base, work))}
        for kept, peer in peers.items():
            ways |= {
                f"{name}{kept}": partial(on_own_thread, partial(way, peer, work)) for name, way in WAYS.items()
            }
        rates = take_turns(ways, tokens, flags.repeats, progress, f"{streams} streams")
        if flags.vllm:
            for kept, peer in peers.items():
                progress.stage(f"{streams} streams, vLLM{kept}")
                task = {
                    "base": str(Path(flags.base).resolve()),
                    "dtype": dtype_name(peer),
                    "work": work,
                    "repeats": flags.repeats,
                }
                rates[f"vLLM{kept}"] = peer_rates(flags.vllm, VLLM_SCRIPT, task, "vLLM")
        results.append({"streams": streams, "tokens": tokens, "rates": rates})
    return {
        "base": {"name": base_name(flags.base), "digest": base.digest},
        "threads": flags.threads,
        "dtype": dtype_name(base),
        "seed": flags.seed,
        "results": results,
    }


def show(result: dict[str, Any]) -> str:
    """Return a table with a row per contender."""
    rows = [
        [each["streams"], name, *rate_and_ratio(each["rates"], name)]
        for each in result["results"]
        for name in each["rates"]
    ]
    base = result["base"]
    return (
        markdown(["streams", "contender", "tokens/s", "ratio of ours"], rows)
        + f"\nBase {base['name']}, digest {base['digest'][:12]}; {result['threads']} threads; "
        f"ours in {result['dtype']}; prompts of "
        f"{PROMPT_TOKENS[0]} to {PROMPT_TOKENS[1]} tokens, answers of {ANSWER_TOKENS[0]} to {ANSWER_TOKENS[1]}.\n"
    )


def make_work(streams: int, vocabulary: int, *, seed: int) -> Work:
    """Return prompts of random ordinary tokens and lengths of answers."""
    rng = np.random.Generator(np.random.PCG64(seed))
    sizes = rng.integers(*PROMPT_TOKENS, size=streams, endpoint=True)
    lengths = rng.integers(*ANSWER_TOKENS, size=streams, endpoint=True)
    return [
        (rng.integers(8, vocabulary, size=size).tolist(), int(length))
        for size, length in zip(sizes, lengths, strict=True)
    ]


def ours(base: Any, work: Work) -> None:
    """All at once, through the scheduler that serves."""
    from mongars.records import Sampling
    from mongars.serving.generation.scheduler import Scheduler
    from mongars.serving.generation.sequence import TokenSequence

    scheduler = Scheduler(rows=32, prefill_tokens=512, cache_bytes=2**30)
    answers = [
        TokenSequence(
            prompt,
            Sampling(max_tokens=length),
            max_new_tokens=length,
            eos_ids=frozenset(),
            tokenizer=base.tokenizer,
            emit=lambda _: None,
        )
        for prompt, length in work
    ]
    for answer in answers:
        scheduler.submit(base.model, answer)
    for answer, (_, length) in zip(answers, work, strict=True):
        assert answer.result.result()[1].completion_tokens == length
    scheduler.close()


def one_by_one(base: Any, work: Work) -> None:
    """`generate()`, one stream at a time."""
    for prompt, length in work:
        _generate(base, [prompt], length)


def static_batch(base: Any, work: Work) -> None:
    """One `generate()` over all prompts, left-padded, to the longest answer."""
    _generate(base, [prompt for prompt, _ in work], max(length for _, length in work))


def continuous(base: Any, work: Work) -> None:
    """transformers' continuous batching, with limits that suit a CPU."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    config = GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=max(length for _, length in work))
    bounds = ContinuousBatchingConfig(
        page_size=32, num_blocks=512, max_batch_tokens=512, max_requests_per_batch=32
    )
    manager = base.model.init_continuous_batching(generation_config=config, continuous_batching_config=bounds)
    manager.start()
    try:
        for index, (prompt, length) in enumerate(work):
            manager.add_request(prompt, request_id=str(index), max_new_tokens=length)
        over = 0
        while over < len(work):
            result = manager.get_result(timeout=60)
            if result is None:
                raise UnavailableError("Continuous batching returned nothing for a minute.")
            over += result.is_finished()
    finally:
        manager.stop(block=True)


WAYS: dict[str, Way] = {
    "one by one": one_by_one,
    "static batch": static_batch,
    "transformers' continuous batching": continuous,
}


def _generate(base: Any, prompts: list[list[int]], length: int) -> None:
    import torch

    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    with torch.inference_mode():
        made = base.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, min_new_tokens=length, max_new_tokens=length
        )
    assert made.shape[1] == longest + length


def _flags() -> argparse.ArgumentParser:
    parser = rate_flags("Measure generation throughput against peers in the same run.")
    parser.add_argument(
        "--streams", type=int, action="append", help="concurrent answers; may be repeated (default: 16 and 32)"
    )
    add_dtype(parser)
    parser.add_argument("--vllm", help="the Python of an environment with vLLM")
    return parser


if __name__ == "__main__":
    sys.exit(main())
