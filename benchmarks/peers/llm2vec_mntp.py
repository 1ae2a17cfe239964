"""The llm2vec peer of benchmarks/mntp.py; runs in a separate environment without mongars.

Reads {"script", "arguments", "threads", "skip"} as JSON from stdin: llm2vec's experiments/run_mntp.py, its
configuration, and the number of warm-up steps. The script runs unchanged; transformers' Trainer is patched to
record the end of each step and the real tokens until then. The last line of stdout is [tokens, seconds, seconds of
processor time] of the steps after the warm-up.
"""

import json
import runpy
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers


class Watch(transformers.TrainerCallback):
    """Records the end of every step and the tokens until then."""

    def __init__(self) -> None:
        self.tokens, self.ends = 0, []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.ends.append((self.tokens, time.perf_counter(), time.process_time()))


def watch_trainer() -> Watch:
    """Patch Trainer, and return the watch that every later instance reports to."""
    watch = Watch()
    begin, pass_through = transformers.Trainer.__init__, transformers.Trainer.training_step

    def begin_watched(self: object, *arguments: object, **options: object) -> None:
        begin(self, *arguments, **options)
        self.add_callback(watch)

    def counted(self: object, model: object, inputs: dict, *rest: object) -> torch.Tensor:
        watch.tokens += int(inputs["attention_mask"].sum())
        return pass_through(self, model, inputs, *rest)

    transformers.Trainer.__init__, transformers.Trainer.training_step = begin_watched, counted
    return watch


def main() -> None:
    """Run the script and print the measurement."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    watch = watch_trainer()
    with tempfile.TemporaryDirectory() as place:
        configuration = Path(place) / "configuration.json"
        configuration.write_text(json.dumps({**task["arguments"], "output_dir": f"{place}/adapter"}))
        sys.argv = [task["script"], str(configuration)]
        runpy.run_path(task["script"], run_name="__main__")
    first, last = watch.ends[task["skip"] - 1], watch.ends[-1]
    print(json.dumps([end - start for start, end in zip(first, last, strict=True)]), flush=True)


if __name__ == "__main__":
    main()
