"""The table of stages: what is trained for it, in which order, how seeds are summed up. Ray is not needed."""

from contextlib import nullcontext

import pytest

from benchmarks import stages
from benchmarks.stages import WAYS, main

KNOBS = ["--set-mntp", "steps=2", "--set-contrastive", "steps=3", "--set-contrastive", "batch_pairs=4"]


@pytest.fixture
def trained(monkeypatch, make_adapter, base_folder, tmp_path):
    """The recipes that the script trains, as (recipe, starts from); each has weights of its own."""
    asked, kept = [], {}

    class Trainer:
        def __init__(self, config, *_, init_from=None, **__):
            self.folder = kept.setdefault((config, init_from), make_adapter(config.seed + len(kept)).folder)
            asked.append((config, init_from))

        def train(self):
            return self

    class Catalog:
        def __init__(self, _):
            pass

        get = require_ready = parts = lambda *_: None

    monkeypatch.setattr(stages, "AdapterTrainer", Trainer)
    monkeypatch.setattr(stages, "DatasetCatalog", Catalog)
    monkeypatch.setattr(stages, "ray_session", lambda *_: nullcontext())
    monkeypatch.setenv("MONGARS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MONGARS_BASE_MODEL", str(base_folder))
    return asked


@pytest.fixture
def flags(data_folder):
    return ["--dataset", "sgd", "--data", data_folder, "--pool", 40, *KNOBS]


def test_stage_2_starts_from_the_mntp_adapter_of_its_own_seed(trained, measured, flags):
    measured(main, *flags, "--seeds", 3, 4)
    assert [config.seed for config, _ in trained] == [3] * len(WAYS) + [4] * len(WAYS)
    for first in (0, len(WAYS)):
        of_seed = trained[first : first + len(WAYS)]
        assert [config.objective for config, _ in of_seed] == ["mntp", *["contrastive"] * 4]
        single, after = of_seed[1:3], of_seed[3:]
        assert [config for config, _ in single] == [config for config, _ in after], (
            "the same options, another start"
        )
        assert [start for _, start in of_seed[:3]] == [None] * 3
        assert after[0][1] == after[1][1] is not None
    assert trained[3][1] != trained[len(WAYS) + 3][1]


def test_options_of_the_command_line_reach_their_stage(trained, measured, flags):
    result = measured(main, *flags, "--seeds", 0)
    assert {name: recipe["steps"] for name, recipe in result["recipes"].items()} == {
        way.name: 3 if way.pairs else 2 for way in WAYS
    }
    assert result["recipes"]["turns"]["dropout"] == 0
    assert result["recipes"]["SimCSE"]["dropout"] > 0


def test_the_table_has_mean_minimum_and_maximum_over_the_seeds(trained, flags, measured):
    result = measured(main, *flags, "--seeds", 0, 1)
    values = [row["mrr"]["value"] for row in result["rows"]["MNTP"]]
    table = stages.show(result)
    assert f"{sum(values) / 2:.3f} [{min(values):.3f}, {max(values):.3f}]" in table
    for name in ("BM25", "causal base", "bidirectional, untrained", *(way.name for way in WAYS)):
        assert f"| {name} |" in table
