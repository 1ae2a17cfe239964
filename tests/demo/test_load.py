"""The load's clients record failed requests and continue."""

import socket

from mongars.demo.load import Load, Target


def test_clients_record_failed_requests_and_continue() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Load(Target(f"http://127.0.0.1:{port}", ("mg-key",)), ["hello"], clients=2) as load:
        load.drop_pauses()
        assert not load.wait_for("chat", 0, 1, timeout_s=1.0)
    assert len(load.answers) >= 2
    assert {answer.kind for answer in load.answers} == {"chat", "embedding"}
    assert all(answer.failure and "ConnectError" in answer.failure for answer in load.answers)


def test_a_target_does_not_show_its_keys() -> None:
    assert "mg-key" not in repr(Target("http://127.0.0.1:1", ("mg-key",)))
