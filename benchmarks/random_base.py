"""A base of a given size with random weights, to measure speed where only shapes matter.

    python benchmarks/random_base.py --base models/base/mongars-nano --output FOLDER [--layers 30] [--hidden 576]
        [--inner 1536] [--heads 9] [--stored-heads 3] [--json]

Tokenizer, vocabulary, context window and chat template are those of `--base`; the options give the rest. The
defaults are the shape of SmolLM-135M (https://huggingface.co/HuggingFaceTB/SmolLM-135M, config.json), which with
the 8,192 tokens of mongars-nano has 111 M parameters. Its output is noise.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import run
from mongars.cli.output import Stages
from mongars.errors import InputError
from mongars.lm.base_files import base_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the base, print its size, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: make(flags, progress), None if flags.json else show)


def make(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Write the base; return its folder and number of parameters. Raises InputError for an existing folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if flags.output.exists():
        raise InputError(f"{flags.output} already exists.", remedy="Name another folder.")
    source, shape = base_folder(flags.base), shape_of(flags)
    progress.stage("write")
    shutil.copytree(source, flags.output, ignore=shutil.ignore_patterns("*.safetensors", "README.md", "*.svg"))
    config = flags.output / "config.json"
    options = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(options | shape, indent=2), encoding="utf-8")
    torch.manual_seed(flags.seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(flags.output), dtype=torch.bfloat16)
    model.save_pretrained(flags.output, safe_serialization=True)
    return {"folder": str(flags.output), "parameters": sum(each.numel() for each in model.parameters())}


def shape_of(flags: argparse.Namespace) -> dict[str, int]:
    """Return the shape as fields of a Llama config. Raises InputError for indivisible heads."""
    if flags.hidden % flags.heads or flags.heads % flags.stored_heads:
        raise InputError(
            f"{flags.hidden}, {flags.heads} and {flags.stored_heads} are not divisible.",
            remedy="Choose --hidden as a multiple of --heads, and --heads as a multiple of --stored-heads.",
        )
    return {
        "num_hidden_layers": flags.layers,
        "hidden_size": flags.hidden,
        "intermediate_size": flags.inner,
        "num_attention_heads": flags.heads,
        "num_key_value_heads": flags.stored_heads,
        "head_dim": flags.hidden // flags.heads,
    }


def show(result: dict[str, Any]) -> str:
    """Return one line."""
    return f"{result['folder']}: {result['parameters'] / 1e6:.1f} M parameters\n"


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", required=True, help="folder of a Llama whose tokenizer is copied")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--inner", type=int, default=1536)
    parser.add_argument("--heads", type=int, default=9)
    parser.add_argument("--stored-heads", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
