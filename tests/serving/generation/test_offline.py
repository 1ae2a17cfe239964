import pytest

from mongars.errors import InputError
from mongars.records import GenerationRequest, Sampling, Turn
from mongars.serving.generation.offline import generate_one


def ask(**sampling):
    return GenerationRequest("req_1", (Turn("user", "hello"),), Sampling(**sampling))


def test_greedy_text_equals_that_of_transformers_generate(base):
    said = []
    generate_one(base.model, base.tokenizer, ask(max_tokens=20), said.append)
    prompt = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    out = base.model.generate(**prompt, max_new_tokens=20, do_sample=False)
    expected = base.tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    # Bytes of a character that is not complete are never said; `decode` shows them as U+FFFD.
    assert "".join(said).rstrip("\ufffd") == expected.rstrip("\ufffd")


def test_a_prompt_that_fills_the_context_is_refused(base):
    request = GenerationRequest("req_1", (Turn("user", "hello " * 600),), Sampling())
    with pytest.raises(InputError, match="holds 512"):
        generate_one(base.model, base.tokenizer, request, print)


def test_without_end_tokens_a_reply_has_all_its_tokens(base):
    _, usage = generate_one(base.model, base.tokenizer, ask(max_tokens=200), lambda _: None, stop_at_eos=False)
    assert usage.completion_tokens == 200
