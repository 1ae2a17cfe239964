"""The parts that need no server; the whole is a run of minutes."""

from benchmarks.swap import make_adapters, show
from mongars.registry import AdapterStore, BaseSpec, PublishRequest
from mongars.storage.digests import folder_digest


def test_generated_adapters_differ_and_are_accepted_by_the_store(keep, base_folder, base, tmp_path):
    folders = make_adapters(base_folder, tmp_path / "made", 3)
    assert len({folder_digest(folder) for folder in folders}) == 3
    store = AdapterStore(tmp_path / "store")
    for folder in folders:
        keep(store, PublishRequest(folder, "swap", BaseSpec.of(base_folder)))


def test_the_table_has_latency_ratios_and_publication_times():
    text = show(
        {
            "base": {"name": "tiny", "digest": "a" * 64},
            "replicas": 4,
            "clients": 2,
            "publications": [0.5, 0.7, 0.9],
            "latencies": {"embed, quiet": [0.01] * 9, "embed, publishing": [0.012] * 9, "chat, quiet": [1.0]},
            "failures": [],
        }
    )
    assert "median 0.70 s, maximum 0.90 s, of 3. Failed requests: 0." in text
    assert "| embed | 9 | 9 | 10 ms, 12 ms: 1.20 | 10 ms, 12 ms: 1.20 |" in text
    assert "| chat |" not in text
