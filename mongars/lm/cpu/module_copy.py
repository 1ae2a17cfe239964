"""Fast copies of module trees: `copy.deepcopy` with a short path for the parts that most modules consist of.

A module is mainly fourteen dictionaries of children, tensors and hooks, most of them empty.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

_ATOMS = {type(None), bool, int, float, str}
_DICTIONARIES = {OrderedDict, dict}
_COLLECTIONS = _DICTIONARIES | {set, list}
_COPYING = {"__deepcopy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__"}


def clone_module_tree(tree: Module, tensors: Mapping[int, Tensor]) -> Module:
    """Return a copy of a tree with its own modules, configuration and hooks.

    `tensors` maps the id of a tensor to its replacement in the copy; other tensors are copied.
    """
    memo: dict[int, Any] = dict(tensors)
    plain_kinds = {kind for kind in map(type, tree.modules()) if _is_plain(kind)}
    plain = [module for module in tree.modules() if type(module) in plain_kinds]
    for module in plain:
        memo[id(module)] = module.__class__.__new__(module.__class__)
    for module in plain:
        state: dict[str, Any] = module.__getstate__()  # type: ignore[no-untyped-call]
        own = {name: _copied(value, memo) for name, value in state.items()}
        memo[id(module)].__dict__.update(own)  # nn.Module would register values set as attributes
    copied: Module = copy.deepcopy(tree, memo)  # in `memo` already if the root is plain
    return copied


def _is_plain(kind: type[nn.Module]) -> bool:
    """Return whether a module is copied by its attributes: no class of it defines its own copying."""
    return all(_COPYING.isdisjoint(vars(each)) for each in kind.__mro__ if each not in (nn.Module, object))


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind in _COLLECTIONS and not value:
        copied = kind()
    elif kind in _DICTIONARIES and all(_is_known(name, each, memo) for name, each in value.items()):
        copied = kind((name, memo.get(id(each))) for name, each in value.items())
    else:
        return copy.deepcopy(value, memo)
    memo[id(value)] = copied  # as in deepcopy, so that copies share what their originals share
    return copied


def _is_known(name: object, value: object, memo: Mapping[int, Any]) -> bool:
    return type(name) is str and (value is None or id(value) in memo)
