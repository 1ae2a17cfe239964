"""The model card of a pretrained base, with its loss curve. It has no benchmark results, which come later."""

import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mongars.pretraining.job import CurvePoint, PretrainJob
from mongars.pretraining.state import TrainingState
from mongars.training.config import Precision
from mongars.training.objectives.precision import computes_in_bf16

_POINTS = 12  # most rows of the table; the plot has every point


def write_card(state: TrainingState, job: PretrainJob, tokens: int, folder: Path) -> None:
    """Write README.md and loss.svg; `tokens` is the size of the training text."""
    (folder / "loss.svg").write_bytes(_plot(state.curve))
    (folder / "README.md").write_text(_card(state, job, tokens), encoding="utf-8")


def _card(state: TrainingState, job: PretrainJob, tokens: int) -> str:
    config, shape = job.config, state.model.config
    seen = config.steps * config.batch_rows * config.context
    points = _table_points(state.curve)
    rows = "\n".join(f"| {point.step:,} | {point.loss:.3f} | {_heldout(point)} |" for point in points)
    return f"""# {job.output.name}

A small Llama-architecture causal language model, made from scratch by `jobs/pretrain_base.py`, to try and test
monGARS with. **It is not a model to serve customers with**: it knows little, and says wrong things fluently.

| | |
|---|---|
| parameters | {state.model.num_parameters():,}, kept in bf16 |
| layers, hidden, heads, intermediate | {config.layers}, {config.hidden_size}, {config.heads}, \
{config.intermediate_size} |
| vocabulary | {shape.vocab_size:,} entries, byte-level BPE trained on the same text |
| context | {config.context} tokens |
| text | {tokens:,} tokens: {_sources(job)} |
| training | {config.steps:,} steps of {config.batch_rows} x {config.context} tokens: {seen:,} tokens, \
{seen / tokens:.1f} epochs |
| optimizer | Muon for the linear layers, AdamW for the rest; rate {config.learning_rate:g}, \
{config.warmup_steps} steps of warm-up, linear decay to 0 in the last {config.decay_steps:,}, \
weight decay {config.weight_decay:g}, clip {config.clip_norm:g}, seed {config.seed} |
| machine | {_machine(state, config.precision)}, {config.workers} worker(s) of {config.threads} thread(s), \
{state.seconds / 3600:.1f} hours |

Loss in nats per token:

| step | training | held out |
|---:|---:|---:|
{rows}

![loss by step](loss.svg)
"""


def _sources(job: PretrainJob) -> str:
    """Return the names of the text files, with a count for repeated ones."""
    counted = Counter(job.sources).items()
    return ", ".join(name if times == 1 else f"{name} ({times} times)" for name, times in counted)


def _table_points(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return a subset of the points with a held-out loss, including the last one."""
    measured = [point for point in curve if point.heldout_loss is not None] or list(curve)
    every = -(-len(measured) // _POINTS)
    return measured[::-1][::every][::-1]


def _heldout(point: CurvePoint) -> str:
    return "" if point.heldout_loss is None else f"{point.heldout_loss:.3f}"


def _machine(state: TrainingState, precision: Precision) -> str:
    device = state.model.device
    products = "bf16" if computes_in_bf16(precision, device) else "fp32"
    return f"{'a GPU' if device.type == 'cuda' else f'CPU ({os.cpu_count()} cores)'}, {products}"


def _plot(curve: Sequence[CurvePoint]) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    measured = [(point.step, point.heldout_loss) for point in curve if point.heldout_loss is not None]
    with mpl.rc_context({"svg.hashsalt": "mongars"}):  # makes the plot reproducible
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot([point.step for point in curve], [point.loss for point in curve], label="training", linewidth=1)
        axes.plot([step for step, _ in measured], [loss for _, loss in measured], label="held out")
        axes.set(xlabel="step", ylabel="loss, nats per token")
        axes.legend(frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
