"""The vLLM peer of benchmarks/generation.py; runs in a separate environment without mongars.

Reads {"base", "dtype", "work", "repeats"} as JSON from stdin; the last line of stdout is the list of rates.
"""

import json
import os
import sys
import time

from vllm import LLM, SamplingParams


def main() -> None:
    """Measure the rates, in generated tokens per second."""
    answer = os.dup(1)
    os.dup2(2, 1)  # vLLM and its processes log to stdout, even after the end
    task = json.load(sys.stdin)
    engine = LLM(model=task["base"], dtype=task["dtype"], max_model_len=512, enable_prefix_caching=False)
    prompts = [{"prompt_token_ids": prompt} for prompt, _ in task["work"]]
    settings = [
        SamplingParams(temperature=0.0, max_tokens=length, min_tokens=length, ignore_eos=True, detokenize=True)
        for _, length in task["work"]
    ]
    rates = []
    for repeat in range(task["repeats"] + 1):
        started = time.perf_counter()
        outputs = engine.generate(prompts, settings, use_tqdm=False)
        seconds = time.perf_counter() - started
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        if repeat:
            rates.append(tokens / seconds)
    os.write(answer, f"{json.dumps(rates)}\n".encode())


if __name__ == "__main__":
    main()
