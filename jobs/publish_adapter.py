"""Publish an adapter folder to every replica of a running server.

    ray job submit --working-dir . -- python jobs/publish_adapter.py --folder FOLDER --name NAME

Prints the publication as JSON. The job runs in a copy of its working folder, so give
MONGARS_HOME, MONGARS_MODELS_DIR and MONGARS_BASE_MODEL as absolute paths. Exit codes are those of `mongars`.
"""

import argparse
import json
import sys
from pathlib import Path

from mongars.errors import MongarsError
from mongars.evolution.rollout import Rollout
from mongars.lm.base_files import base_folder
from mongars.records import ADAPTER_KINDS, as_json
from mongars.registry import BaseSpec, PublishRequest
from mongars.registry.actor import BlockingRegistryClient
from mongars.serving.cluster import connect_to_ray
from mongars.settings import load_settings


def main() -> int:
    """Parse the flags, publish, wait for the replicas."""
    parser = argparse.ArgumentParser(description="Publish an adapter folder to every replica of a running server.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", required=True, help="small letters, digits and hyphens")
    parser.add_argument("--kind", choices=ADAPTER_KINDS, default="encoder")
    parser.add_argument("--timeout-s", type=float, default=120.0, help="how long to wait for the replicas")
    parser.add_argument("--ray-address", default="auto")
    flags = parser.parse_args()
    try:
        settings = load_settings().resolved()
        connect_to_ray(settings, flags.ray_address)
        client = BlockingRegistryClient.connect(settings.ray_namespace)
        base = BaseSpec.of(base_folder(settings.base_model))
        done = client.publish(PublishRequest(flags.folder, flags.name, base, flags.kind))
        replicas = [one.replica for one in client.status().replicas]
        Rollout(client).to_all(done.generation, replicas, flags.timeout_s)
    except MongarsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(as_json(done) | {"replicas": replicas}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
