"""Train the tagger of person names that the package ships, and measure it."""

from dataclasses import asdict
from pathlib import Path


def train_name_tagger(
    train: Path, heldout: Path, *, output: Path | None = None, seed: int | None = None
) -> dict[str, float]:
    """Train on a CoNLL file, write the weights and return how well the tagger finds the names of another file.

    `output` is by default the folder from which the package loads its tagger. The card next to the weights is not
    written: it is a text by hand that quotes these figures. Raises InputError for a file that cannot be read.
    """
    from mongars.curation.pii.person_names import train as tagger_training
    from mongars.curation.pii.person_names.tagger import FOLDER

    recipe = tagger_training.TaggerRecipe()
    if seed is not None:
        recipe = tagger_training.TaggerRecipe(seed=seed)
    labelled = tagger_training.read_conll(train)
    measured = tagger_training.read_conll(heldout)
    tagger = tagger_training.train(labelled, recipe)
    tagger_training.save(tagger, output or FOLDER, recipe)
    quality = tagger_training.measure(tagger, measured)
    return asdict(quality) | {
        "recall": round(quality.recall, 3),
        "precision": round(quality.precision, 3),
        "threshold": tagger.threshold,
    }
