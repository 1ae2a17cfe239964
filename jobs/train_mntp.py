"""Train an adapter from a dataset version: `mongars train` as a Ray job.

    ray job submit --working-dir . -- python jobs/train_mntp.py --dataset NAME[@VERSION] [--gpu]

Prints the result as JSON, progress on stderr. Submit the job again to resume a run. `ray job stop` sends SIGTERM,
and SIGKILL 3 s later: a step that takes longer is lost, with those since the last checkpoint (`checkpoint_steps`).
A Ray job runs in a copy of its working folder: give absolute paths, also in MONGARS_HOME, MONGARS_MODELS_DIR and
MONGARS_BASE_MODEL.
"""

from mongars.cli.main import run_job

if __name__ == "__main__":
    run_job(["train"], ray=True)
