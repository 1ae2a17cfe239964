"""A model of a few thousand weights, and rows that it can learn."""

import numpy as np
import pytest

from mongars.pretraining.config import PretrainConfig

TINY = PretrainConfig(
    vocab_size=300,
    hidden_size=32,
    layers=2,
    heads=2,
    intermediate_size=48,
    context=16,
    batch_rows=4,
    steps=12,
    learning_rate=1e-2,
    warmup_steps=2,
    decay_steps=4,
    report_steps=2,
    checkpoint_steps=4,
    heldout_steps=6,
    threads=1,
)


@pytest.fixture
def tiny() -> PretrainConfig:
    return TINY


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from mongars.pretraining.tokenizer import train_tokenizer

    return train_tokenizer(["Book a table for two, please."] * 3, vocab_size=300, max_tokens=64)


@pytest.fixture(scope="session")
def token_rows() -> np.ndarray:
    """Rows in which each token is the one before plus one, int32 [40, 16]."""
    starts = np.random.default_rng(0).integers(10, 200, size=40)
    return (starts[:, None] + np.arange(16)).astype(np.int32)


@pytest.fixture
def fresh(tiny, tiny_tokenizer):
    """Return fresh(config) -> TrainingState of a new model."""
    from mongars.pretraining.model import fresh_model
    from mongars.pretraining.state import TrainingState

    return lambda config=tiny: TrainingState.fresh(fresh_model(config, tiny_tokenizer), config)
