"""Run one self-training cycle against a running server.

    ray job submit --working-dir . -- python jobs/self_train.py

Prints the cycle's report as JSON, progress on stderr. The job runs in a copy of its working folder, so give
MONGARS_HOME, MONGARS_MODELS_DIR and MONGARS_BASE_MODEL as absolute paths. Exit codes are those of `mongars`:
3 when the gate refused.
"""

import argparse
import json
import sys

from mongars.errors import GateRefusedError, MongarsError
from mongars.evolution.gate import GateConfig
from mongars.evolution.wiring import DEFAULT_NAME, CyclePlan, build_engine
from mongars.records import as_json
from mongars.registry.actor import BlockingRegistryClient
from mongars.serving.cluster import connect_to_ray
from mongars.settings import load_settings
from mongars.training.config import MNTPConfig, config_from


def main() -> int:
    """Parse the flags and run the cycle."""
    parser = argparse.ArgumentParser(description="Run one self-training cycle against a running server.")
    parser.add_argument("--dataset", default=DEFAULT_NAME)
    parser.add_argument("--adapter", default=DEFAULT_NAME)
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=JSON", help="a knob of MNTPConfig")
    parser.add_argument("--margin", type=float, default=0.0, help="least gain in nats per target")
    parser.add_argument("--tolerance", type=float, default=0.0, help="most that turn retrieval may lose, nDCG@10")
    parser.add_argument("--ray-address", default="auto")
    flags = parser.parse_args()
    try:
        settings = load_settings().resolved()
        plan = CyclePlan(
            dataset=flags.dataset,
            adapter=flags.adapter,
            training=config_from(MNTPConfig, flags.set),
            gate=GateConfig(margin=flags.margin, tolerance=flags.tolerance),
        )
        connect_to_ray(settings, flags.ray_address)
        client = BlockingRegistryClient.connect(settings.ray_namespace)
        report = build_engine(settings, client, plan).run_cycle(lambda stage: print(stage, file=sys.stderr))
    except MongarsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(as_json(report)))
    return GateRefusedError.exit_code if report.outcome == "refused" else 0


if __name__ == "__main__":
    sys.exit(main())
