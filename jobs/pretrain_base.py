"""Make the small base model from conversations.

    python jobs/pretrain_base.py --input FILE.jsonl[.gz] --output models/base/mongars-nano

Progress on stderr. A line that cannot be read is named and left out. Exit codes: 0 done, 1 some lines could not be
read, else the code of the error.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mongars.errors import MongarsError
from mongars.records import Conversation
from mongars.sources import BadLine, read_conversations
from mongars.training.pretrain import PretrainConfig, make_base


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    flags = _flags().parse_args(arguments)
    bad: list[BadLine] = []
    try:
        config = PretrainConfig(steps=flags.steps, seed=flags.seed)
        make_base(_conversations(flags.inputs, bad), flags.output, config=config, on_progress=_show)
    except MongarsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    for line in bad:
        sys.stderr.write(f"{line.path}:{line.line}: {line.reason}\n")
    return 1 if bad else 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make the small base model from conversations.")
    parser.add_argument(
        "--input", dest="inputs", type=Path, action="append", required=True, help="JSONL or .jsonl.gz; repeat it"
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that is empty or does not exist")
    parser.add_argument("--steps", type=_positive, default=PretrainConfig().steps)
    parser.add_argument("--seed", type=int, default=PretrainConfig().seed)
    return parser


def _conversations(paths: Sequence[Path], bad: list[BadLine]) -> Iterator[Conversation]:
    """Yield what can be read; what cannot goes to `bad`."""
    for path in paths:
        for item in read_conversations(path):
            if isinstance(item, BadLine):
                bad.append(item)
            else:
                yield item


def _positive(text: str) -> int:
    """Return a count; argparse turns the ValueError into a usage error."""
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _show(step: int, steps: int, loss: float) -> None:
    sys.stderr.write(f"step {step} of {steps}: loss {loss:.3f}\n")


if __name__ == "__main__":
    sys.exit(main())
