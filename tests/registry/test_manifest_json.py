"""The manifest file: a round trip loses nothing, anything unknown is an error."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongars.errors import InputError
from mongars.records import AdapterRef
from mongars.registry import manifest as rules
from mongars.registry.manifest import AdapterManifest
from mongars.registry.manifest_json import parse, serialise

FILE = "adapter_manifest.json"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def manifests(draw: st.DrawFn) -> AdapterManifest:
    manifest = AdapterManifest()
    for number in draw(st.lists(st.integers(0, 50), unique=True, max_size=5)):
        ref = AdapterRef(
            name=draw(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True)),
            digest=f"{number:064x}",
            kind=draw(st.sampled_from(["encoder", "chat"])),
            state="candidate",
            base_digest="b" * 64,
            dataset=draw(st.none() | st.text(max_size=8)),
            created_at=draw(st.datetimes(timezones=st.just(UTC))),
            metrics=draw(st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False))),
        )
        apply = draw(st.sampled_from([rules.publish, rules.register]))
        manifest = apply(manifest, ref, AT)
    return manifest


@given(manifests())
def test_a_manifest_survives_a_round_trip(manifest: AdapterManifest) -> None:
    assert parse(serialise(manifest), FILE) == manifest


def document() -> dict:
    ref = AdapterRef("a", "1" * 64, "encoder", "candidate", "b" * 64, None, AT, {"loss": 1.0})
    return json.loads(serialise(rules.publish(AdapterManifest(), ref, AT)))


def changed(*path: object, value: object) -> bytes:
    whole = document()
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (changed("schema", value=2), "schema"),
        (changed("extra", value=1), "extra"),
        (changed("adapters", 0, "extra", value=1), "adapters.0.extra"),
        (changed("history", 0, "extra", value=1), "history.0.extra"),
        (changed("adapters", 0, "state", value="asleep"), "adapters.0.state"),
        (changed("adapters", 0, "state", value="canary"), "adapters.0.state"),
        (changed("adapters", 0, "metrics", "loss", value=float("nan")), "metrics"),
        (changed("generation", value="1"), "generation"),
        (changed("generation", value=2), "every generation"),
        (changed("current", "encoder", value=None), "not the current"),
        (changed("current", "encoder", value="2" * 64), "not the current"),
        (changed("current", "video", value=None), "current"),
        (changed("history", 0, "digest", value="2" * 64), "not listed"),
        (changed("history", 0, "at", value="2026-01-01T00:00:00"), "offset"),
    ],
)
def test_an_invalid_manifest_is_an_error_that_names_the_file(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(data, FILE)
    assert "adapter_manifest.json" in str(caught.value)
