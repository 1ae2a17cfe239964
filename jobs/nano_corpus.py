"""Gather the text of mongars-nano from public data sets, for `jobs/pretrain_base.py`: `mongars corpus` as a job.

    python jobs/nano_corpus.py --data FOLDER --output FOLDER [--seed 0]

The folder of the data has the files that `mongars.pretraining.corpus.build.DATA_SETS` names. Prints an account of
the sources as JSON, progress on stderr.
"""

from mongars.cli.main import run_job

if __name__ == "__main__":
    run_job(["corpus"])
