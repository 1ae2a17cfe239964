"""The base of the language model's tests."""

from tests.lm.conftest import base, base_path

__all__ = ["base", "base_path"]
