"""The contracts of import-linter hold, and each of them notices an import that breaks it."""

import copy
from pathlib import Path

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).parents[2]
KINDS = {"layers": LayersContract, "forbidden": ForbiddenContract}


@pytest.fixture(scope="module")
def contracts():
    configuration = read_configuration(str(ROOT / "pyproject.toml"))
    return [
        KINDS[options["type"]](options["name"], configuration["session_options"], options)
        for options in configuration["contracts_options"]
    ]


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("mongars", include_external_packages=True, cache_dir=None)


def broken(contracts, graph):
    """Return the names of the contracts that a graph breaks."""
    return [each.name for each in contracts if not each.check(copy.deepcopy(graph), verbose=False).kept]


def test_the_contracts_hold(contracts, graph):
    assert broken(contracts, graph) == []


@pytest.mark.parametrize(
    ("importer", "imported", "contract"),
    [
        ("mongars.records", "mongars.memory", "Layers"),
        ("mongars.memory", "mongars.serving", "Layers"),
        ("mongars.memory", "mongars.registry", "Layers"),
        ("mongars.serving", "mongars.evolution", "Layers"),
        ("mongars.conversation", "ray", "Ray"),
        ("mongars.cli.data", "mongars.curation", "Command line"),
    ],
)
def test_a_broken_contract_is_noticed(contracts, graph, importer, imported, contract):
    changed = copy.deepcopy(graph)
    changed.add_import(importer=importer, imported=imported)
    assert any(name.startswith(contract) for name in broken(contracts, changed))
