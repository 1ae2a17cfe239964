"""Gather the text of mongars-nano from public data sets, for `jobs/pretrain_base.py`.

    python jobs/nano_corpus.py --data FOLDER --output FOLDER [--seed 0]

The folder of the data holds the files that `mongars.pretraining.corpus.build.DATA_SETS` names. Progress and a
table go to stderr, the account of the sources to stdout as JSON. Exit codes: 0 done, else the code of the error.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mongars.errors import MongarsError
from mongars.pretraining.corpus.build import Account, gather


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    flags = _flags().parse_args(arguments)
    try:
        accounts = gather(flags.data, flags.output, seed=flags.seed, on_source=_show)
    except MongarsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stderr.write(_table(accounts))
    sys.stdout.write(json.dumps([asdict(account) for account in accounts], indent=2, ensure_ascii=False) + "\n")
    return 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Gather the text of mongars-nano from public data sets.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the gathered text")
    parser.add_argument("--seed", type=int, default=0, help="of the choice which conversations get a system turn")
    return parser


def _show(account: Account) -> None:
    sys.stderr.write(f"{account.input} -> {account.output}: {account.documents} documents\n")


def _table(accounts: Sequence[Account]) -> str:
    rows = [
        ("source", "documents", "words", "characters", "licence"),
        *((each.name, *_figures(each), each.licence) for each in accounts),
        ("all", *(f"{sum(column):,}" for column in zip(*map(_counts, accounts), strict=True)), ""),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) if place in (0, 4) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )


def _counts(account: Account) -> tuple[int, int, int]:
    return account.documents, account.words, account.characters


def _figures(account: Account) -> list[str]:
    return [f"{count:,}" for count in _counts(account)]


if __name__ == "__main__":
    sys.exit(main())
