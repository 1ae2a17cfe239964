"""`mongars keys`, `check`, and `serve` on a port in use."""

import json
import socket
from pathlib import Path

import pytest

CONFIGS = sorted((Path(__file__).parents[2] / "serve_configs").glob("*.yaml"))


def test_a_key_is_printed_and_only_its_hash_is_stored(mongars, tmp_path: Path) -> None:
    result = mongars("keys", "create", "--user", "anna", "--admin", "--json")
    made = json.loads(result.stdout)
    assert (made["user"], made["scopes"], made["consent"]) == ("anna", ["chat", "admin"], False)
    kept = (tmp_path / "var" / "api_keys.json").read_text()
    assert made["key"] not in kept
    assert "anna" in kept


def test_if_none_creates_no_second_key(mongars) -> None:
    assert mongars("keys", "create", "--user", "owner", "--if-none").stdout.startswith("mg-")
    assert mongars("keys", "create", "--user", "owner", "--if-none").stdout == ""


def test_serve_reports_a_port_in_use(mongars) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = mongars("serve", "--port", str(port))
    assert result.exit_code == 4
    assert str(port) in result.stderr
    assert "PORT=" in result.stderr


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_serve_config_passes_the_check(mongars, config: Path) -> None:
    assert mongars("check", str(config)).exit_code == 0


def test_check_suggests_the_nearest_name_for_a_misspelt_key(mongars, tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text(CONFIGS[0].read_text().replace("route_prefix", "route_prefx"))
    result = mongars("check", str(path))
    assert result.exit_code == 2
    assert "Did you mean route_prefix?" in result.stderr
