"""Importing the package or the command line must stay light."""

import subprocess
import sys


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has imported after running `code`."""
    program = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_mongars_loads_neither_torch_nor_ray() -> None:
    assert not {"torch", "ray", "transformers", "mlflow"} & loaded_by("import mongars")


def test_the_command_line_loads_no_heavy_library_before_a_command_runs() -> None:
    heavy = {"torch", "ray", "transformers", "mlflow", "sqlalchemy", "lancedb", "fastapi", "pyarrow"}
    assert not heavy & loaded_by("import mongars.cli.main")


def test_usage_statistics_are_off_after_the_import() -> None:
    program = "import mongars, os; from mongars.usage_stats import SILENCED\n"
    program += "print(SILENCED.items() <= os.environ.items())"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin"}
    )
    assert result.stdout.strip() == "True"


def test_a_variable_set_by_the_operator_is_kept() -> None:
    program = "import mongars, os; print(os.environ['RAY_USAGE_STATS_ENABLED'])"
    env = {"PATH": "/usr/bin", "RAY_USAGE_STATS_ENABLED": "1"}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert result.stdout.strip() == "1"
