from types import SimpleNamespace

from mongars.serving.deployments.router import GENERATION, by_generation


def replica(name, **stats):
    return SimpleNamespace(name=name, routing_stats=stats)


def test_newer_replicas_come_first_and_those_without_a_report_last():
    replicas = [
        replica("silent"),
        replica("old", **{GENERATION: 3}),
        *(replica(n, **{GENERATION: 4}) for n in "ab"),
    ]
    ranks = [[each.name for each in rank] for rank in by_generation(replicas)]
    assert ranks == [["a", "b"], ["old"], ["silent"]]


def test_without_replicas_there_is_no_rank():
    assert list(by_generation([])) == []
