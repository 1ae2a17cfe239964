"""Every way does the same work, on a tiny base."""

import pytest

from benchmarks import generation
from benchmarks.generation import WAYS, main, make_work


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(generation, "PROMPT_TOKENS", (3, 9))
    monkeypatch.setattr(generation, "ANSWER_TOKENS", (2, 5))


def test_the_work_is_the_same_for_the_same_seed_and_within_its_bounds():
    work = make_work(20, 200, seed=1)
    assert work == make_work(20, 200, seed=1) != make_work(20, 200, seed=2)
    assert all(3 <= len(prompt) <= 9 and 2 <= length <= 5 for prompt, length in work)
    assert all(8 <= token < 200 for prompt, _ in work for token in prompt)


def test_every_way_has_a_rate_for_each_repeat(measured, base_folder):
    result = measured(main, "--base", base_folder, "--streams", 3, "--repeats", 2, "--threads", 1)
    (each,) = result["results"]
    assert set(each["rates"]) == {"ours", *WAYS}
    assert all(len(rates) == 2 and min(rates) > 0 for rates in each["rates"].values())


def test_in_bfloat16_the_other_ways_run_in_both_types(measured, base_folder, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
    flags = ("--streams", 2, "--repeats", 1, "--threads", 1, "--dtype", "bfloat16")
    result = measured(main, "--base", base_folder, *flags)
    assert result["dtype"] == "bfloat16"
    (each,) = result["results"]
    assert set(each["rates"]) == {"ours", *WAYS, *(f"{name}, bfloat16" for name in WAYS)}


def test_a_missing_vllm_is_an_error(failed, base_folder):
    code, message = failed(
        main, "--base", base_folder, "--streams", 1, "--repeats", 1, "--threads", 1, "--vllm", "false"
    )
    assert code == 4
    assert "vLLM failed" in message
