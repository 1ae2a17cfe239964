"""The parts of benchmarks/curation_memory.py that need no Ray; the whole is a run of minutes."""

from itertools import islice

from benchmarks.curation_memory import MIB, Peak, conversations, show


def test_generated_conversations_differ_and_repeat_with_their_seed():
    first, again = (list(islice(conversations(1000, seed=1), 100)) for _ in range(2))
    assert first == again
    assert len({talk.turns for talk in first}) == 100
    assert all(len(talk.turns) == 8 and talk.consent for talk in first)


def test_the_memory_peak_is_kept_after_the_memory_is_freed():
    with Peak(every_s=0.001) as peak:
        while not peak.driver:
            pass
        before = peak.driver
        held = bytearray(b"x" * 64 * MIB)
        while peak.driver < before + 60 * MIB:
            pass
        del held
    assert peak.driver >= before + 60 * MIB


def test_the_table_has_the_bytes_per_further_conversation():
    peaks = [
        {"rows": rows, "kept": rows, "driver": (200 + rows // 1000) * MIB, "workers": 400 * MIB, "together": MIB}
        for rows in (1000, 2000)
    ]
    text = show({"store": 300 * MIB, "peaks": peaks})
    assert "| 1000 | 1000 | 201 MiB | 400 MiB | 1 MiB |" in text
    assert f"takes {MIB / 1000:.0f} bytes" in text
