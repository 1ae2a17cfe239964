from threading import Event

import pytest
import torch

from mongars.errors import InputError
from mongars.records import GenerationRequest, Sampling, Turn
from mongars.serving.decoding import GumbelNoise, decode


def ask(**sampling):
    return GenerationRequest("req_1", (Turn("user", "hello"),), Sampling(**sampling))


def test_setting_cancelled_ends_the_generation_within_a_few_tokens(base):
    cancelled, said = Event(), []

    def emit(text):
        said.append(text)
        cancelled.set()

    _, usage = decode(base.model, base.tokenizer, ask(max_tokens=200), emit, cancelled)
    # transformers hands tokens to a streamer one step late; and half a character is held back.
    assert len(said) <= 2
    assert usage.completion_tokens < 10


def test_greedy_text_is_what_generate_gives_without_us(base):
    said = []
    decode(base.model, base.tokenizer, ask(max_tokens=20), said.append, Event())
    prompt = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    out = base.model.generate(**prompt, max_new_tokens=20, do_sample=False)
    expected = base.tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    # Bytes of a character that is not complete are never said; `decode` shows them as U+FFFD.
    assert "".join(said).rstrip("\ufffd") == expected.rstrip("\ufffd")


def test_gumbel_noise_samples_from_the_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    noise = GumbelNoise(seed=1)
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[noise(None, logits).argmax()] += 1
    torch.testing.assert_close(counts / 4000, logits.softmax(-1)[0], atol=0.03, rtol=0)


def test_a_prompt_that_fills_the_context_is_refused(base):
    request = GenerationRequest("req_1", (Turn("user", "hello " * 600),), Sampling())
    with pytest.raises(InputError, match="holds 512"):
        decode(base.model, base.tokenizer, request, print, Event())
