"""Curate conversation files into a dataset version: `mongars curate` as a Ray job.

    ray job submit --working-dir . -- python jobs/curate.py --input FILE --name NAME

Unlike the command it requires files: it never curates the saved conversations. Prints the report as JSON, progress
on stderr. A Ray job runs in a copy of its working folder: give absolute paths, also in MONGARS_HOME,
MONGARS_MODELS_DIR and MONGARS_BASE_MODEL.
"""

from mongars.cli.main import run_job

if __name__ == "__main__":
    run_job(["curate", "--input-required"], ray=True)
