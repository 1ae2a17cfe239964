"""Train the tagger of person names that the package ships, and measure it.

    python jobs/train_name_tagger.py --train wnut17_train.conll --heldout wnut17_dev.conll [--output FOLDER]

Figures go to stdout as JSON. Exit codes: 0 done, else the code of the error. The card beside the weights is
written by hand: it must say what these figures are.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mongars.curation.pii.person_names.tagger import FOLDER
from mongars.curation.pii.person_names.train import TaggerRecipe, measure, read_conll, save, train
from mongars.errors import MongarsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job and return its exit code."""
    flags = _flags().parse_args(arguments)
    recipe = TaggerRecipe(seed=flags.seed)
    try:
        labelled, heldout = read_conll(flags.train), read_conll(flags.heldout)
        tagger = train(labelled, recipe)
        save(tagger, flags.output, recipe)
    except MongarsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    quality = measure(tagger, heldout)
    figures = asdict(quality) | {
        "recall": round(quality.recall, 3),
        "precision": round(quality.precision, 3),
        "threshold": tagger.threshold,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the tagger of person names.")
    parser.add_argument("--train", type=Path, required=True, help="CoNLL file to learn from")
    parser.add_argument("--heldout", type=Path, required=True, help="CoNLL file to measure on")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the weights")
    parser.add_argument("--seed", type=int, default=TaggerRecipe().seed, help="of the made sentences")
    return parser


if __name__ == "__main__":
    sys.exit(main())
