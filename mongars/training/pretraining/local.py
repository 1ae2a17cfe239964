"""A base from conversations at hand, made in this process: without Ray, and nothing is kept to go on from.

Owns the way from conversations to a job. Must not know where they come from.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mongars.errors import InputError
from mongars.records import Conversation
from mongars.training.byte_bpe import train_tokenizer
from mongars.training.pretraining.config import PretrainConfig
from mongars.training.pretraining.documents import document_ids
from mongars.training.pretraining.packing import pack
from mongars.training.pretraining.run import PretrainJob, PretrainReport, check_output
from mongars.training.pretraining.worker import run_pretraining


def make_base(
    conversations: Iterable[Conversation],
    output: Path,
    *,
    config: PretrainConfig,
    on_report: Callable[[PretrainReport], None] = lambda _: None,
) -> None:
    """Train a base model of one worker and write its folder `output` at once.

    The same conversations in the same order and the same config give the same weights on the same machine.
    Raises InputError when `output` holds something or there is too little text, TrainingError for a gradient that
    is not finite.
    """
    check_output(output)
    documents = [[{"role": turn.role, "content": turn.content} for turn in each.turns] for each in conversations]
    texts = (message["content"] for document in documents for message in document)
    tokenizer = train_tokenizer(texts, vocab_size=config.vocab_size, max_tokens=config.context)
    rows = pack([document_ids(tokenizer, document) for document in documents], config.context)
    if not len(rows):
        raise InputError(
            f"Too little text: not one row of {config.context} tokens.", remedy="Give more conversations."
        )
    with tempfile.TemporaryDirectory(prefix="mongars-base-") as place:
        folder = Path(place)
        tokenizer.save_pretrained(folder / "tokenizer")
        np.save(folder / "rows.npy", rows)
        job = PretrainJob(
            config=config,
            folder=folder,
            tokenizer=folder / "tokenizer",
            rows=folder / "rows.npy",
            heldout=None,
            output=output,
            sources=(f"{len(documents):,} conversations",),
        )
        run_pretraining(job, report=on_report)
