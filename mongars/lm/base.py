"""The base language model in memory.

Owns the loading of causal models and the choice of dtype. Must not know adapters or attention masks.
Only safetensors are read, and no code of a model's author is run.
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
SHAPE = ("hidden_size", "vocab_size", "max_position_embeddings")  # what an encoder must know of its model


@dataclass(frozen=True)
class Base:
    """A loaded causal model. `digest` is that of its files in `path`; `model` is in eval mode."""

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
    """Load a causal model from a folder, or from the hub where the id is `owner/name` and no folder.

    `dtype` is by default the checkpoint's own on a GPU and float32 on a CPU (`machine_dtype`). The model is
    optimized for CPUs unless `cpu_optimizations` is off; `packed` includes its weights, for a base that stays on
    the CPU and is not trained.
    Raises ModelNotFoundError when it is not there, or has no safetensors or no tokenizer, InputError for files
    that transformers cannot read and for an architecture without attention.
    """
    # Loaded here: importing transformers takes seconds, and a process that only reads digests has no need of it.
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
    """Return the checkpoint's dtype where there is a GPU; on a CPU float32, whatever its instructions are.

    In bf16 a vector depends on the texts that share its batch: by 3e-3, in float32 by 4e-7 (measured on a CPU that
    has bf16). So every CPU gives the same answers, alone or in a batch. Without the instructions bf16 is also 6
    times slower, and float16 likewise. Who wants bf16 all the same asks for it (`resolve_dtype`).
    """
    return checkpoint if torch.cuda.is_available() else torch.float32


def resolve_dtype(name: Dtype, device: str) -> torch.dtype | None:
    """Return the dtype to load a base with; None, which is `machine_dtype`, for auto.

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
    """Return whether the processor has bf16 products: `avx512_bf16`, `amx_bf16`, `bf16` and the like."""
    return any("bf16" in name and has for name, has in torch.cpu.get_capabilities().items())


@contextmanager
def naming_base(path: Path) -> Iterator[None]:
    """Turn whatever transformers raises of a folder's content into an InputError that names the base."""
    try:
        yield
    except (MongarsError, MemoryError):
        raise
    except Exception as error:
        what = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise InputError(
            f"The base model {path.name} cannot be loaded ({type(error).__name__}: {what}).",
            remedy=f"Look for damaged files. {OTHER_BASE}",
        ) from error


def _check_architecture(config: Any) -> None:
    """Raise InputError for a model that has no window of attention, as Mamba, or does not tell it."""
    missing = [name for name in SHAPE if getattr(config, name, None) is None]
    if missing:
        raise InputError(
            f"{config.model_type} has no {', '.join(missing)}: it does not attend to a window of tokens.",
            remedy=OTHER_BASE,
        )
