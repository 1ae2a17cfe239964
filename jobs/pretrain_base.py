"""Make a base model from scratch: `mongars pretrain` as a Ray job.

    ray job submit --working-dir . -- python jobs/pretrain_base.py --input FILE.jsonl[.gz] --output FOLDER [--gpu]

Prints the folder and its digest as JSON, progress on stderr. Submit the job again to resume a run; `ray job stop`
sends SIGTERM, and SIGKILL 3 s later. A Ray job runs in a copy of its working folder: give absolute paths, also
in MONGARS_HOME.
"""

from mongars.cli.main import run_job

if __name__ == "__main__":
    run_job(["pretrain"], ray=True)
