"""The base language model in memory: loading and dtype.

Only safetensors are read, and no code from a model's repository runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mongars.errors import InputError, MongarsError, SettingsError
from mongars.lm.base_files import base_folder, base_model_digest
from mongars.lm.cpu.optimize import optimize_for_cpu
from mongars.records import Dtype

OTHER_BASE = "Use a base of another architecture, such as Llama, Qwen3 or Mistral."
SHAPE = ("hidden_size", "vocab_size", "max_position_embeddings")  # what an encoder needs of its config


@dataclass(frozen=True)
class Base:
    """A loaded causal model in eval mode. `digest` is that of its files in `path`."""

    model: nn.Module
    tokenizer: Any
    path: Path
    digest: str


def load_base(
    path_or_id: str | Path,
    *,
    dtype: torch.dtype | None = None,
    packed: bool = False,
    cpu_optimizations: bool = True,
) -> Base:
    """Load a causal model from a folder, or from the hub when `owner/name` is not a folder.

    `dtype` is by default the checkpoint's own on a GPU and float32 on a CPU (`machine_dtype`). The model is
    optimized for CPUs unless `cpu_optimizations` is off; `packed` includes its weights, for a base that stays on
    the CPU and is not trained.
    Raises ModelNotFoundError for a model that does not exist or has no safetensors or no tokenizer, InputError for
    files that transformers cannot read and for an architecture without attention.
    """
    # Imported here: transformers takes seconds, and a process that only reads digests does not need it.
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    path = base_folder(path_or_id)
    with naming_base(path):
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        _check_architecture(config)
        if dtype is None:
            dtype = machine_dtype(config.dtype or torch.float32)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    if cpu_optimizations:
        optimize_for_cpu(model, pack=packed)
    return Base(model.eval(), tokenizer, path, base_model_digest(path))


def machine_dtype(checkpoint: torch.dtype) -> torch.dtype:
    """Return the checkpoint's dtype on a GPU, float32 on a CPU, even on one with bf16 instructions.

    In bf16 a vector depends visibly on the texts in its batch (docs/decisions/024-bf16-in-serving.md). With
    float32 every CPU gives the same answers, alone or in a batch. bf16 is available on request (`resolve_dtype`).
    """
    return checkpoint if torch.cuda.is_available() else torch.float32


def resolve_dtype(name: Dtype, device: str) -> torch.dtype | None:
    """Return the dtype that a name stands for; None for auto, which is `machine_dtype`.

    Raises SettingsError for bfloat16 on a processor without instructions for it.
    """
    if name == "auto":
        return None
    if name == "bfloat16" and device == "cpu" and not _multiplies_bf16():
        raise SettingsError(
            "dtype is bfloat16, but this processor has no instructions for it and would be many times slower.",
            remedy="Leave dtype at auto, or use a processor with avx512_bf16, amx_bf16 or ARM's bf16.",
        )
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _multiplies_bf16() -> bool:
    """Return whether the processor multiplies bf16: `avx512_bf16`, `amx_bf16`, `bf16` and similar."""
    return any("bf16" in name and has for name, has in torch.cpu.get_capabilities().items())


@contextmanager
def naming_base(path: Path) -> Iterator[None]:
    """Convert whatever transformers raises about a folder's files to an InputError that names the base."""
    try:
        yield
    except (MongarsError, MemoryError):
        raise
    except Exception as error:
        what = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise InputError(
            f"The base model {path.name} cannot be loaded ({type(error).__name__}: {what}).",
            remedy=f"Check the files for damage. {OTHER_BASE}",
        ) from error


def _check_architecture(config: Any) -> None:
    """Raise InputError for a model whose config has no attention window, such as Mamba."""
    missing = [name for name in SHAPE if getattr(config, name, None) is None]
    if missing:
        raise InputError(
            f"{config.model_type} has no {', '.join(missing)}: it does not attend to a window of tokens.",
            remedy=OTHER_BASE,
        )
