"""Run one self-training cycle against a running server.

    ray job submit --working-dir . -- python jobs/self_train.py

Prints the cycle's report as JSON, progress on stderr. The job runs in a copy of its working folder, so give
MONGARS_HOME, MONGARS_MODELS_DIR and MONGARS_BASE_MODEL as absolute paths. Exit codes are those of `mongars`:
3 when the gate refused.
"""

import argparse
import json
import sys

from mongars.errors import GateRefusedError, MongarsError, SettingsError
from mongars.evolution.gate import GateConfig
from mongars.records import as_json
from mongars.registry.actor import BlockingRegistryClient
from mongars.serving.cluster import connect_to_ray
from mongars.settings import load_settings
from mongars.training.config import MNTPConfig, config_from, stage_2_after
from mongars.workflows.assembly import DEFAULT_NAME, CyclePlan, build_engine


def main() -> int:
    """Parse the flags and run the cycle."""
    parser = argparse.ArgumentParser(description="Run one self-training cycle against a running server.")
    parser.add_argument("--dataset", default=DEFAULT_NAME)
    parser.add_argument("--adapter", default=DEFAULT_NAME)
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=JSON", help="a knob of MNTPConfig")
    parser.add_argument("--stage-2", action="store_true", help="train stage 2 too; retrieval then decides")
    parser.add_argument(
        "--set-2", action="append", default=[], metavar="KNOB=JSON", help="a knob of ContrastiveConfig"
    )
    parser.add_argument(
        "--margin", type=float, default=0.0, help="least gain, nats per target or with --stage-2 nDCG@10"
    )
    parser.add_argument("--tolerance", type=float, default=0.0, help="most that turn retrieval may lose, nDCG@10")
    parser.add_argument("--ray-address", default="auto")
    flags = parser.parse_args()
    try:
        settings = load_settings().resolved()
        if flags.set_2 and not flags.stage_2:
            raise SettingsError("--set-2 without --stage-2.", remedy="Add --stage-2.")
        training = config_from(MNTPConfig, flags.set)
        plan = CyclePlan(
            dataset=flags.dataset,
            adapter=flags.adapter,
            training=training,
            stage_2=stage_2_after(training, flags.set_2) if flags.stage_2 else None,
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
