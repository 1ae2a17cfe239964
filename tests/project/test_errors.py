"""The error classes: picklable, and all in the diagram of the module."""

import pickle
import re

import pytest

import mongars.errors
from mongars.errors import MongarsError, OverloadedError


def tree(cls: type[MongarsError]) -> list[type[MongarsError]]:
    """Return the class and its subclasses, without those that Ray derives from them in this process."""
    own = (child for child in cls.__subclasses__() if child.__module__ == mongars.errors.__name__)
    return [cls] + [leaf for child in own for leaf in tree(child)]


@pytest.mark.parametrize("cls", tree(MongarsError), ids=lambda cls: cls.__name__)
def test_pickling_keeps_an_error_whole(cls: type[MongarsError]) -> None:
    error = cls("found this", remedy="Do that.", param="field")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert (copy.message, copy.remedy, copy.param) == ("found this", "Do that.", "field")
    assert str(copy) == "found this Do that."


def test_pickling_keeps_a_changed_attribute() -> None:
    error = OverloadedError("full")
    error.retry_after_s = 7
    assert pickle.loads(pickle.dumps(error)).retry_after_s == 7


def test_the_diagram_of_the_module_has_exactly_the_classes() -> None:
    drawn = re.findall(r"\b\w+Error\b", mongars.errors.__doc__ or "")
    assert sorted(drawn) == sorted(cls.__name__ for cls in tree(MongarsError))
