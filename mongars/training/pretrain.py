"""The small base model, made from scratch: a tokenizer and a Llama trained on conversations.

Owns the model's shape, its causal training and its folder. Must not know Ray, nor where conversations come from.
It is a model to try and test the system with, not one to serve customers with; the card says so.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mongars.errors import InputError, TrainingError
from mongars.files import new_folder
from mongars.records import Conversation
from mongars.training.byte_bpe import END, EOS, train_tokenizer
from mongars.training.text import token_ids

BaseProgress = Callable[[int, int, float], None]  # step (from 1), steps, loss of the step


class PretrainConfig(BaseModel):
    """Every knob of `make_base`. The defaults take about a minute on two cores (docs/results)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(2048, ge=300)
    hidden_size: int = 192
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 512
    max_position_embeddings: int = Field(2048, description="Longest input that is accepted, in tokens.")
    context: int = Field(256, ge=8, description="Tokens in a training row.")
    batch_rows: int = Field(8, ge=1)
    steps: int = Field(150, ge=1)
    learning_rate: float = 3e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    threads: int = Field(2, ge=1)


def make_base(
    conversations: Iterable[Conversation],
    output: Path,
    *,
    config: PretrainConfig | None = None,
    on_progress: BaseProgress | None = None,
) -> Path:
    """Train a base model and write its folder `output` at once; return `output`.

    The same conversations in the same order and the same config give the same weights on the same machine.
    Raises InputError when `output` holds something or there is too little text, TrainingError when the loss
    is not finite.
    """
    config = config or PretrainConfig()
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} is not empty.", remedy="Remove it, or choose another folder.")
    messages = [[{"role": turn.role, "content": turn.content} for turn in c.turns] for c in conversations]
    texts = (message["content"] for conversation in messages for message in conversation)
    tokenizer = train_tokenizer(texts, vocab_size=config.vocab_size, max_tokens=config.max_position_embeddings)
    rows = pack(tokenizer, messages, config.context)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = LlamaForCausalLM(_llama(config, tokenizer))
    losses = _train(model, rows, config, on_progress)
    with new_folder(output) as folder:
        _save(model, tokenizer, folder)
        card = _card(model, config, len(messages), rows.size, losses)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return output


def pack(tokenizer: Any, conversations: Sequence[list[dict[str, str]]], context: int) -> np.ndarray:
    """Return the conversations, each closed by eos, as one stream cut into rows: int64 [rows, context]."""
    stream: list[int] = []
    for messages in conversations:
        stream.extend(token_ids(tokenizer, messages, max_tokens=len(tokenizer) * context))
        stream.append(tokenizer.eos_token_id)
    count = len(stream) // context
    if count == 0:
        raise InputError(
            f"Only {len(stream)} tokens of text, and one training row takes {context}.",
            remedy="Give more conversations.",
        )
    return np.asarray(stream[: count * context], dtype=np.int64).reshape(count, context)


def _llama(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _train(
    model: LlamaForCausalLM, rows: np.ndarray, config: PretrainConfig, on_progress: BaseProgress | None
) -> list[float]:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    order = np.random.Generator(np.random.PCG64(config.seed))
    model.train()
    losses: list[float] = []
    for step in range(1, config.steps + 1):
        batch = torch.from_numpy(rows[order.integers(len(rows), size=config.batch_rows)])
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise TrainingError(f"The loss is {losses[-1]} at step {step}.", remedy="Lower learning_rate.")
        if on_progress:
            on_progress(step, config.steps, losses[-1])
    model.eval()
    return losses


def _rate(step: int, config: PretrainConfig) -> float:
    """Linear warm-up, then a cosine down to a tenth (Hoffmann et al. 2022, Chinchilla, section 3)."""
    warmup = max(1, round(config.steps * config.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, config.steps - warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress)))


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    stops = [tokenizer.convert_tokens_to_ids(END), tokenizer.convert_tokens_to_ids(EOS)]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _card(
    model: LlamaForCausalLM, config: PretrainConfig, conversations: int, tokens: int, losses: list[float]
) -> str:
    tail = losses[-10:]
    return f"""# A small base model of monGARS

A Llama-architecture causal language model made from scratch by `make_base`, to try and test the system with.
It is not a model to serve customers with.

- Parameters: {model.num_parameters():,}; vocabulary {model.config.vocab_size:,} (byte-level BPE); fp32 safetensors
- Text: {conversations:,} conversations, {tokens:,} tokens
- Training: {config.steps} steps of {config.batch_rows} x {config.context} tokens, \
AdamW {config.learning_rate:g}, seed {config.seed}
- Loss (nats per token): first step {losses[0]:.3f}, mean of the last {len(tail)} steps {sum(tail) / len(tail):.3f}
"""
