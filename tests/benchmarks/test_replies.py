"""Twenty replies and their times, by a tiny base."""

import shutil

import pytest
import torch

from benchmarks import replies
from benchmarks.replies import PROMPTS, TIMED_RUNS, main


@pytest.fixture
def flags(base_folder):
    return ["--base", base_folder, "--threads", 1]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Replies of a few tokens: how long they are changes nothing that is tested. One thread, put back after."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(replies, "MAX_TOKENS", 4)
    monkeypatch.setattr(replies, "TIMED_TOKENS", 2)
    yield
    torch.set_num_threads(threads)


def test_there_are_twenty_prompts_and_the_user_speaks_first_and_last():
    assert len({turns for _, turns in PROMPTS}) == 20
    assert all(len(turns) % 2 for _, turns in PROMPTS)
    assert sum(len(turns) > 1 for _, turns in PROMPTS) >= 3


def test_every_prompt_has_its_reply_and_the_times_are_measured(measured, flags):
    result = measured(main, *flags)
    assert [tuple(each["turns"]) for each in result["replies"]] == [turns for _, turns in PROMPTS]
    assert all(each["finish"] in ("stop", "length") for each in result["replies"])
    assert any(each["reply"] for each in result["replies"])  # a few random bytes are not always a text
    assert len(result["reply_s"]) == TIMED_RUNS
    assert min(*result["reply_s"], result["load_s"]) > 0


def test_replies_repeat_with_their_seed_and_change_with_it(base):
    first, same, other = (
        [replies.reply(base, turns, seed + place) for place, (_, turns) in enumerate(PROMPTS[:4])]
        for seed in (0, 0, 1)
    )
    assert first == same
    assert first != other


def test_a_base_without_a_chat_template_is_refused(failed, tmp_path, base_folder):
    plain = shutil.copytree(base_folder, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    code, message = failed(main, "--base", plain)
    assert code == 2
    assert "no chat template" in message
