"""A base's replies to twenty prompts, all of them, and how long they take.

    python benchmarks/replies.py --base models/base/mongars-nano

The prompts are our own, on the common intents of the Schema-Guided Dialogue domains and of open chat. Each reply
is sampled once, with a seed per row, with the served system prompt and decoding. Replies are neither selected nor
edited.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.common import markdown, run
from mongars.cli.output import Stages
from mongars.conversation.prompt import SYSTEM_PROMPT
from mongars.errors import InputError
from mongars.records import GenerationRequest, Sampling, Turn

# Slightly below 1, as chat is usually sampled; the tail of a small model is noise.
TEMPERATURE = 0.7
TOP_P = 0.9
MAX_TOKENS = 64
TIMED_TOKENS = 64
TIMED_RUNS = 5

# (domain, turns): the user speaks first and last.
PROMPTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("restaurants", ("I'd like to book a table for two tonight.",)),
    (
        "restaurants",
        ("Can you find me a good Thai place?", "Which city should I look in?", "Somewhere in Oakland, please."),
    ),
    ("hotels", ("I need a hotel room in Paris for three nights.",)),
    ("buses", ("Is there a bus from Fresno to Los Angeles on Friday?",)),
    (
        "flights",
        (
            "I want to fly to Chicago.",
            "Where will you be leaving from, and on which day?",
            "From Atlanta, on the 5th of March.",
        ),
    ),
    ("weather", ("Will it rain in San Diego tomorrow?",)),
    ("movies", ("What films are playing near me this evening?",)),
    ("doctors", ("I'm looking for a dentist in Berkeley.",)),
    ("hair salons", ("Could you make me an appointment for a haircut on Saturday?",)),
    ("alarms", ("Please set an alarm for half past six.",)),
    (
        "banks",
        (
            "I have to send some money to a friend.",
            "How much would you like to transfer, and to whom?",
            "Send 120 dollars to Maria from checking.",
        ),
    ),
    ("music", ("Play something relaxing by a jazz band.",)),
    ("events", ("Are there any concerts in New York this weekend?",)),
    ("homes", ("I want to rent an apartment with two bedrooms.",)),
    ("calendar", ("Do I have anything planned for Monday afternoon?",)),
    ("rental cars", ("I need to hire a car from the airport on Thursday.",)),
    ("taxi rides", ("Get me a taxi to the train station.",)),
    (
        "chat: films",
        (
            "What kind of films do you like?",
            "I love science fiction, and you?",
            "Me too. Which one did you see last?",
        ),
    ),
    ("chat: music", ("Hey, what kind of music have you been listening to lately?",)),
    ("chat: sport", ("Did you watch the football game on Sunday?",)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Sample, time, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return every reply, and the measured times in seconds."""
    progress.stage("load")
    started = time.perf_counter()
    import torch
    import transformers  # noqa: F401 (timed separately from the model)

    from mongars.lm.base import load_base
    from mongars.lm.base_files import base_name

    torch.set_num_threads(flags.threads)
    imported = time.perf_counter()
    base = load_base(flags.base)
    loaded = time.perf_counter()
    load_base(flags.base)
    again = time.perf_counter() - loaded
    if not base.tokenizer.chat_template:
        raise InputError(f"{flags.base} has no chat template.", remedy="Choose a base that was trained for chat.")
    progress.stage("replies")
    replies = []
    for index, (domain, texts) in enumerate(PROMPTS):
        replies.append({"domain": domain, "turns": list(texts), **reply(base, texts, flags.seed + index)})
        progress.update(index + 1, len(PROMPTS))
    progress.stage("times")
    return {
        "base": {"name": base_name(flags.base), "digest": base.digest},
        "seed": flags.seed,
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "max_tokens": MAX_TOKENS,
        "threads": flags.threads,
        "import_s": imported - started,
        "load_s": loaded - imported,
        "load_again_s": again,
        "reply_s": reply_times(base),
        "replies": replies,
    }


def show(result: dict[str, Any]) -> str:
    """Return the table, and below it how the replies were sampled and how long they took."""
    rows = [
        [each["domain"], "\n".join(_spoken(each["turns"])), each["reply"], each["finish"]]
        for each in result["replies"]
    ]
    base, times = result["base"], result["reply_s"]
    median = statistics.median(times)
    load, again, libraries = result["load_s"], result["load_again_s"], result["import_s"]
    return "\n".join(
        [
            markdown(["domain", "prompt", "reply", "end"], rows),
            f"Base {base['name']}, digest {base['digest']}. Sampled once each, temperature {TEMPERATURE}, "
            f"top_p {TOP_P}, at most {MAX_TOKENS} tokens (`length`: cut there), seed {result['seed']} plus the "
            f"row, from 0. System prompt: {SYSTEM_PROMPT}  ",
            f"Loading took {load:.2f} s the first time (what transformers imports for it included), {again:.2f} s "
            f"the second, after {libraries:.2f} s for torch and transformers. A reply of {TIMED_TOKENS} tokens "
            f"took {median:.2f} s, median of {len(times)} ({min(times):.2f} to {max(times):.2f}), "
            f"on {result['threads']} threads.\n",
        ]
    )


def reply(base: Any, texts: Sequence[str], seed: int) -> dict[str, str]:
    """Return the base's reply to the turns, and its finish reason: `stop` or `length`."""
    from mongars.serving.generation.offline import generate_one

    pieces: list[str] = []
    request = GenerationRequest("reply", _turns(texts), Sampling(MAX_TOKENS, TEMPERATURE, TOP_P, seed=seed))
    finish, _ = generate_one(base.model, base.tokenizer, request, pieces.append)
    return {"reply": "".join(pieces), "finish": finish}


def reply_times(base: Any) -> list[float]:
    """Return the seconds that replies of exactly 64 tokens take, prefill included, after a warm-up."""
    from mongars.serving.generation.offline import generate_one

    request = GenerationRequest("timed", _turns(PROMPTS[0][1]), Sampling(max_tokens=TIMED_TOKENS))
    times = []
    for _ in range(TIMED_RUNS + 1):
        started = time.perf_counter()
        generate_one(base.model, base.tokenizer, request, lambda _: None, stop_at_eos=False)
        times.append(time.perf_counter() - started)
    return times[1:]


def _turns(texts: Sequence[str]) -> tuple[Turn, ...]:
    spoken = (Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(texts))
    return (Turn("system", SYSTEM_PROMPT), *spoken)


def _spoken(texts: Sequence[str]) -> list[str]:
    return [f"{'assistant' if place % 2 else 'user'}: {text}" for place, text in enumerate(texts)]


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Sample a base's replies to twenty prompts, and time them.")
    parser.add_argument("--base", required=True, metavar="PATH", help="folder or hub id of a base model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
