"""The error tree: picklable, and its drawing tells the truth."""

import pickle

import pytest

import mongars.errors
from mongars.errors import MongarsError, OverloadedError


def tree(cls: type[MongarsError]) -> list[type[MongarsError]]:
    return [cls] + [leaf for child in cls.__subclasses__() for leaf in tree(child)]


@pytest.mark.parametrize("cls", tree(MongarsError), ids=lambda cls: cls.__name__)
def test_an_error_survives_pickling_whole(cls: type[MongarsError]) -> None:
    error = cls("found this", remedy="Do that.", param="field")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert (copy.message, copy.remedy, copy.param) == ("found this", "Do that.", "field")
    assert str(copy) == "found this Do that."


def test_a_changed_attribute_survives_pickling() -> None:
    error = OverloadedError("full")
    error.retry_after_s = 7
    assert pickle.loads(pickle.dumps(error)).retry_after_s == 7


def test_every_class_is_drawn_in_the_module() -> None:
    drawing = mongars.errors.__doc__ or ""
    assert all(cls.__name__ in drawing for cls in tree(MongarsError))
