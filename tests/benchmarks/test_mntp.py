"""The figures of the MNTP benchmark: what is counted, what is asked of llm2vec, and how workers are timed."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import mntp
from mongars.training.data.tokenize import token_ids


@pytest.fixture
def flags(base_folder, write_lines, conversations):
    """Arguments that read the first 24 conversations; a step has 8 of them."""
    data = write_lines("chats.jsonl", conversations)
    arguments = ["--base", base_folder, "--data", data, "--rows", 24, "--batch-rows", 8, "--steps", 3, "--skip", 2]
    return [str(each) for each in arguments]


@pytest.fixture
def setting(flags, tmp_path):
    return mntp._setting(mntp._flags().parse_args(flags), tmp_path)


def test_both_sides_read_the_same_tokens(setting, base, conversations):
    ids = {each["id"]: token_ids(base.tokenizer, each["messages"], 512) for each in conversations[:24]}
    rows = setting.rows
    assert {row_id: rows.row(place).tolist() for place, row_id in enumerate(rows.ids)} == ids
    texts = [json.loads(line)["text"] for line in setting.texts.read_text().splitlines()]
    read = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert read == [ids[each["id"]] for each in conversations[:24]]


def test_an_epoch_of_steps_has_the_tokens_of_all_rows(setting):
    assert mntp.tokens_of_steps(setting.rows, setting.config, range(3)) == setting.rows.token_count
    assert mntp.tokens_of_steps(setting.rows, setting.config, range(3, 6)) == setting.rows.token_count
    one = mntp.tokens_of_steps(setting.rows, setting.config, range(2, 3))
    assert 0 < one < setting.rows.token_count


def test_a_worker_is_timed_over_the_steps_after_the_first_ones(setting):
    """In a real process: it trains, and its rate is that of three steps, of tokens that are counted here."""
    rate = mntp.our_rate(setting, workers=1)
    assert 0 < rate.wall < float("inf")
    assert 0 < rate.processor < float("inf")


def test_llm2vec_runs_our_recipe_in_its_own_environment(setting, monkeypatch, tmp_path):
    asked = {}

    def run(command, *, input, env, **_):
        asked.update(json.loads(input), path=env["PYTHONPATH"], offline=env["HF_HUB_OFFLINE"])
        return SimpleNamespace(returncode=0, stdout="what the script says\n[600, 1.5, 1.2]\n", stderr="")

    monkeypatch.setattr(mntp.subprocess, "run", run)
    rate = mntp.llm2vec_rate(setting, tmp_path, tmp_path / "base", line_by_line=True)
    assert (rate.wall, rate.processor) == (400, 500)
    arguments = asked["arguments"]
    assert (arguments["lora_r"], arguments["lora_dropout"], arguments["mlm_probability"]) == (16, 0.05, 0.2)
    assert (arguments["per_device_train_batch_size"], arguments["max_seq_length"]) == (8, 512)
    assert (arguments["stop_after_n_steps"], asked["skip"], asked["threads"]) == (5, 2, 1)
    assert asked["path"].split(":") == [str(tmp_path / "OVER"), str(tmp_path / "llm2vec-0.2.3")]
    assert asked["offline"] == "1"


def test_a_failed_peer_is_an_error_with_its_output(flags, failed, monkeypatch, tmp_path):
    monkeypatch.setattr(mntp, "our_rate", lambda *_, **__: mntp.Rate(1.0, 1.0))
    code, said = failed(mntp.main, *flags, "--llm2vec", tmp_path)
    assert code != 0
    assert "run_mntp.py" in said or "No module named" in said
    assert "benchmarks/README.md" in said


def test_the_copy_for_llm2vec_has_its_configuration_keys(base_folder, tmp_path):
    copy = mntp.copy_for_llm2vec(base_folder, tmp_path / "base")
    merges = json.loads((copy / "tokenizer.json").read_text())["model"]["merges"]
    assert merges
    assert all(isinstance(pair, str) and pair.count(" ") == 1 for pair in merges)
    assert json.loads((copy / "config.json").read_text())["rope_theta"] == 10000.0


def test_the_table_has_the_speed_up_of_two_workers(flags, measured, monkeypatch, capsys):
    rates = {(1, True): iter([100.0, 110.0]), (2, True): iter([180.0, 187.0]), (1, False): iter([50.0, 50.0])}

    def our_rate(_, *, workers, packing=True):
        return mntp.Rate(next(rates[workers, packing]), 100.0 * workers)

    monkeypatch.setattr(mntp, "our_rate", our_rate)
    result = measured(mntp.main, *flags, "--repeats", 2)
    assert result["rates"]["ours, two workers"] == [180.0, 187.0]
    table = mntp.show(result)
    assert "Two workers are 1.75 [1.70, 1.80] times one; by a worker's processor time 2.00 [2.00, 2.00]." in table
    assert "| ours, padded | 50.0 | 2.10 [2.00, 2.20] | 100.0 | 1.00 [1.00, 1.00] |" in table
