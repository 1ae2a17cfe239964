"""Train and measure the tagger of person names that the package ships: `mongars train-name-tagger` as a job.

    python jobs/train_name_tagger.py --train wnut17_train.conll --heldout wnut17_dev.conll [--output FOLDER]

The figures are printed as JSON. Write the card next to the weights by hand: it quotes them.
"""

from mongars.cli.main import run_job

if __name__ == "__main__":
    run_job(["train-name-tagger"])
