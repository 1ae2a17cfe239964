import threading

import pytest
import torch

from mongars.errors import UnavailableError
from mongars.lm.adapters import clone_sharing_tensors
from mongars.records import Sampling
from mongars.serving.generation.scheduler import Scheduler
from mongars.serving.generation.sequence import TokenSequence

PROMPT = [20, 30, 40]


def ask(base, emit=lambda _: None, *, most=6) -> TokenSequence:
    sampling = Sampling(max_tokens=most)
    return TokenSequence(
        PROMPT, sampling, max_new_tokens=500, eos_ids=frozenset(), tokenizer=base.tokenizer, emit=emit
    )


@pytest.fixture
def scheduler():
    scheduler = Scheduler(rows=2, prefill_tokens=32, cache_bytes=2**30)
    yield scheduler
    scheduler.close()


def test_sequences_of_several_versions_run_concurrently(scheduler, base, make_adapter):
    from mongars.lm.adapters import attach_adapter

    poet = attach_adapter(clone_sharing_tensors(base.model), make_adapter(3, "chat").folder)
    answers = [ask(base) for _ in range(6)]
    for number, answer in enumerate(answers):
        scheduler.submit(poet if number % 2 else base.model, answer)
    for answer in answers:
        answer.result.result(timeout=60)
    assert {tuple(answer.tokens) for answer in answers[::2]} != {tuple(answer.tokens) for answer in answers[1::2]}
    for model, group in ((base.model, answers[::2]), (poet, answers[1::2])):
        tokens = list(PROMPT)
        with torch.no_grad():
            for _ in range(6):
                tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        assert all(answer.tokens == tokens for answer in group)


def test_a_model_that_fails_ends_only_its_own_sequences(scheduler, base):
    class Broken(torch.nn.Linear):
        config = base.model.config

        def forward(self, **_: object) -> None:
            raise RuntimeError("out of memory")

    good, bad = ask(base, most=30), ask(base)
    scheduler.submit(base.model, good)
    scheduler.submit(Broken(2, 2), bad)
    with pytest.raises(RuntimeError, match="out of memory"):
        bad.result.result(timeout=60)
    assert good.result.result(timeout=60)[1].completion_tokens == 30


def test_closing_ends_running_sequences_with_an_error(base):
    scheduler, speaking = Scheduler(rows=1, prefill_tokens=32, cache_bytes=2**30), threading.Event()
    answers = [ask(base, lambda _: speaking.set(), most=400), ask(base)]
    for answer in answers:
        scheduler.submit(base.model, answer)
    assert speaking.wait(60)
    scheduler.close()
    for answer in answers:
        with pytest.raises(UnavailableError):
            answer.result.result(timeout=0)
    late = ask(base)
    scheduler.submit(base.model, late)
    with pytest.raises(UnavailableError):
        late.result.result(timeout=0)
