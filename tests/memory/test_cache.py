"""The tiers of the cache, each by itself and together."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mongars import telemetry
from mongars.errors import UnavailableError
from mongars.memory.cache import CacheTier, FileTier, MemoryTier, TieredCache


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file"])
def tier(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock):
    if request.param == "memory":
        yield MemoryTier(max_bytes=100_000, ttl_s=60, clock=clock)
        return
    file = FileTier(tmp_path / "cache.db", max_bytes=100_000, ttl_s=60, clock=clock)
    yield file
    file.close()


def counted(reader: InMemoryMetricReader) -> dict[tuple[str, str], int]:
    data = reader.get_metrics_data()
    return {
        (metric.name, point.attributes["tier"]): point.value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    }


def test_a_tier_returns_the_latest_value(tier: CacheTier) -> None:
    assert tier.get("anna", "k") is None
    tier.put("anna", "k", b"\x00\xff")
    tier.put("anna", "k", b"newer")
    assert tier.get("anna", "k") == b"newer"
    assert tier.get("bob", "k") is None


def test_an_entry_expires(tier: CacheTier, clock: Clock) -> None:
    tier.put("anna", "k", b"v")
    clock.now = 59
    assert tier.get("anna", "k") == b"v"
    clock.now = 61
    assert tier.get("anna", "k") is None


def test_the_least_recently_used_entries_are_evicted(tier: CacheTier, clock: Clock) -> None:
    tier.put("anna", "used", b"v")
    evicted = 0
    for n in range(200):
        clock.now += 0.1
        assert tier.get("anna", "used") == b"v"
        evicted += tier.put("anna", f"k{n}", bytes(1_000))
    assert evicted > 0
    assert tier.get("anna", "k0") is None
    assert tier.get("anna", "k199") is not None


def test_dropping_a_namespace_leaves_the_others(tier: CacheTier) -> None:
    for user in ("anna", "bob"):
        for n in range(3):
            tier.put(user, f"k{n}", b"v")
    assert tier.drop_namespace("anna") == 3
    assert tier.drop_namespace("anna") == 0
    assert tier.get("anna", "k0") is None
    assert tier.get("bob", "k0") == b"v"


def test_threads_can_share_a_tier(tier: CacheTier) -> None:
    def work(n: int) -> bytes | None:
        tier.put("anna", f"k{n % 7}", b"v")
        return tier.get("anna", f"k{n % 7}")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(400))) == {b"v"}


def test_a_value_larger_than_the_memory_tier_is_not_stored() -> None:
    tier = MemoryTier(max_bytes=10)
    tier.put("anna", "small", b"v")
    assert tier.put("anna", "large", bytes(11)) == 0
    assert tier.get("anna", "large") is None
    assert tier.get("anna", "small") == b"v"


def test_the_file_outlives_the_process_and_stays_in_bounds(tmp_path: Path) -> None:
    file = FileTier(tmp_path / "cache.db", max_bytes=200_000)
    for n in range(2_000):
        file.put("anna", f"k{n}", bytes(1_000))
    file.close()
    assert (tmp_path / "cache.db").stat().st_size < 300_000
    again = FileTier(tmp_path / "cache.db", max_bytes=200_000)
    assert again.get("anna", "k1999") == bytes(1_000)
    again.close()


def test_a_dropped_namespace_leaves_the_disk(tmp_path: Path) -> None:
    file = FileTier(tmp_path / "cache.db")
    file.put("anna", "k", b"ABRACADABRA" * 1_000)
    on_disk = lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: E731
    assert b"ABRACADABRA" in on_disk()
    file.drop_namespace("anna")
    assert b"ABRACADABRA" not in on_disk()
    assert b"anna" not in on_disk()
    file.close()


def test_a_damaged_file_is_reported_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_text("this is no database " * 100)
    with pytest.raises(UnavailableError, match=r"delete .*cache\.db"):
        FileTier(tmp_path / "cache.db")


def test_a_hit_is_copied_to_faster_tiers_and_counted_by_tier(tmp_path: Path) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    fast, slow = MemoryTier(max_bytes=10), FileTier(tmp_path / "cache.db")
    cache = TieredCache([fast, slow], meter=meter)
    assert cache.get("anna", "k") is None  # a miss in both
    cache.put("anna", "k", b"12345678")
    cache.put("anna", "l", b"12345678")  # evicts k from memory
    assert cache.get("anna", "k") == b"12345678"  # from the file, and into memory instead of l
    assert fast.get("anna", "k") == b"12345678"
    assert cache.get("anna", "k") == b"12345678"
    assert counted(reader) == {
        (telemetry.CACHE_HITS, "memory"): 1,
        (telemetry.CACHE_HITS, "file"): 1,
        (telemetry.CACHE_MISSES, "memory"): 2,
        (telemetry.CACHE_MISSES, "file"): 1,
        (telemetry.CACHE_EVICTIONS, "memory"): 2,
    }
    slow.close()


def test_dropping_a_namespace_reaches_every_tier(cache: TieredCache) -> None:
    cache.put("anna", "k", b"v")
    cache.put("bob", "k", b"v")
    assert cache.drop_namespace("anna") == 2
    assert (cache.get("anna", "k"), cache.get("bob", "k")) == (None, b"v")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.binary(max_size=40)), max_size=40))
def test_the_memory_tier_stays_in_bounds_and_returns_no_stale_value(puts) -> None:
    tier, last = MemoryTier(max_bytes=64), {}
    for namespace, key, value in puts:
        tier.put(namespace, key, value)
        last[namespace, key] = value
        stored = {entry: tier.get(*entry) for entry in last if tier.get(*entry) is not None}
        assert sum(map(len, stored.values())) <= 64
        assert all(last[entry] == found for entry, found in stored.items())
        assert tier.get(namespace, key) == value
