"""Publish an adapter to every replica of a running server: `mongars adapters publish --ray auto` as a Ray job.

    ray job submit --working-dir . -- python jobs/publish_adapter.py --folder FOLDER --name NAME

Prints the publication and the replicas that loaded it as JSON. A Ray job runs in a copy of its working folder:
give absolute paths, also in MONGARS_HOME, MONGARS_MODELS_DIR and MONGARS_BASE_MODEL.
"""

from mongars.cli.main import run_job

if __name__ == "__main__":
    run_job(["adapters", "publish", "--ray", "auto"])
