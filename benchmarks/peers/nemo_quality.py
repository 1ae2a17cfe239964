"""The NeMo Curator peer of benchmarks/curation.py; runs in a separate environment without mongars.

Reads {"path", "repeats"} as JSON from stdin: a file of JSON Lines, one {"text"} per line. Reading the file,
running the English heuristic cascade that NeMo Curator ships, and writing the rest are timed in this one process,
without its executors. The last line of stdout is {"rates", "kept"}: texts per second, and the number kept.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import nemo_curator
import pandas as pd
import yaml
from hydra.utils import instantiate
from nemo_curator.tasks import DocumentBatch

CASCADE = Path(nemo_curator.__file__).parent / "config" / "text" / "heuristic_filter_english_pipeline.yaml"


def cascade() -> list:
    """Return the filtering stages of the shipped file; the others read and write."""
    stages = yaml.safe_load(CASCADE.read_text())["stages"]
    filters = [stage | {"text_field": "text"} for stage in stages if "filter_obj" in stage]
    return [instantiate(stage) for stage in filters]


def once(stages: list, path: str, output: Path) -> tuple[int, int]:
    """Return the number of texts and of those kept."""
    batch = DocumentBatch(dataset_name="chat", data=pd.read_json(path, lines=True))
    read = len(batch.data)
    for stage in stages:
        batch = stage.process(batch)
    kept = batch.to_pandas()
    kept.to_json(output, orient="records", lines=True)
    return read, len(kept)


def main() -> None:
    """Measure and print."""
    task = json.load(sys.stdin)
    stages, rates = cascade(), []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(task["repeats"] + 1):
            started = time.perf_counter()
            read, kept = once(stages, task["path"], Path(folder) / "kept.jsonl")
            if repeat:
                rates.append(read / (time.perf_counter() - started))
    print(json.dumps({"rates": rates, "kept": kept}), flush=True)


if __name__ == "__main__":
    main()
