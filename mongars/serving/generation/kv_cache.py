"""Keys and values of several sequences, a row each, in tensors that grow and shrink with the longest.

A model's layers call `update`, as they call a transformers `Cache`. The rows in use are always the first, so that
a forward pass reads a view.
"""

import torch
from torch import Tensor

GROW_TOKENS = 128  # a row's length is a multiple of this


def padded_rows(rows: int) -> int:
    """Return how many rows are allocated when `rows` are reserved."""
    return 1 << (rows - 1).bit_length()


def padded_tokens(rows: int, length: int) -> int:
    """Return the most tokens that memory is allocated for when `rows` rows of `length` tokens are reserved."""
    return padded_rows(rows) * (-(-length // GROW_TOKENS) * GROW_TOKENS)


class KVCache:
    """Keys and values [rows, heads, `capacity`, head size] for each layer.

    Call `reserve` and one of the `set_write` methods before every forward pass.
    """

    def __init__(self, *, grow_tokens: int = GROW_TOKENS) -> None:
        """Start empty. `capacity` will be a multiple of `grow_tokens`, which divides GROW_TOKENS."""
        self.capacity = 0
        self._grow_tokens = grow_tokens
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rows = 0
        self._first = self._count = self._length = 0
        self._positions: Tensor | int = 0
        self._places: dict[int, Tensor] = {}

    def reserve(self, rows: int, length: int) -> None:
        """Allocate `length` tokens, and little more, for each of the first `rows` rows.

        `length` is the longest row after the next pass; tokens beyond it may be lost.
        """
        needed = -(-length // self._grow_tokens) * self._grow_tokens
        if rows <= self._rows and needed <= self.capacity <= needed + max(self._grow_tokens, needed // 4):
            return
        kept, self.capacity = min(needed, self.capacity), needed
        self._rows = max(self._rows, padded_rows(rows))
        for tensors in (self._keys, self._values):
            for layer, old in enumerate(tensors):
                new = old.new_zeros(self._rows, old.shape[1], needed, old.shape[3])
                new[: len(old), :, :kept] = old[:, :, :kept]
                tensors[layer] = new

    def set_write_span(self, first: int, count: int, start: int, length: int) -> None:
        """Have the next pass write its tokens from position `start` of `count` rows from `first`.

        The pass attends to the first `length` tokens of these rows.
        """
        self._first, self._count, self._length, self._positions = first, count, length, start

    def set_write_positions(self, positions: Tensor, length: int) -> None:
        """Have the next pass write one token to each row, from the first, at the row's position.

        `positions` is int64 [rows in use]. The pass attends to the first `length` tokens of these rows.
        """
        self._first, self._count, self._length, self._positions = 0, len(positions), length, positions
        self._places.clear()

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values; return all to attend to, [rows, heads, tokens, head size]."""
        while len(self._keys) <= layer:
            shape = (self._rows, keys.shape[1], self.capacity)
            self._keys.append(keys.new_zeros(*shape, keys.shape[-1]))
            self._values.append(values.new_zeros(*shape, values.shape[-1]))
        return self._write(self._keys[layer], keys), self._write(self._values[layer], values)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return the tokens attended to. transformers calls this; positions and masks come with each pass."""
        return self._length

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of a row to another."""
        for tensor in (*self._keys, *self._values):
            tensor[target, :, :length] = tensor[source, :, :length]

    def clear(self) -> None:
        """Free the memory."""
        self._keys, self._values, self._rows, self.capacity = [], [], 0, 0

    @property
    def bytes(self) -> int:
        """Return the allocated memory."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self._keys, *self._values))

    def _write(self, kept: Tensor, new: Tensor) -> Tensor:
        rows = kept[self._first : self._first + self._count]
        if isinstance(self._positions, int):
            rows[:, :, self._positions : self._positions + new.shape[2]] = new
        else:
            # Faster as one list of vectors than by indexing rows and positions separately.
            vectors = new.shape[-1]
            kept.view(-1, vectors).index_copy_(0, self._next_places(new.shape[1]), new.reshape(-1, vectors))
        return rows[:, :, : self._length]

    def _next_places(self, heads: int) -> Tensor:
        """Return the index of each row's next token in a layer's list of vectors, int64 [rows in use x heads]."""
        if heads not in self._places:
            assert isinstance(self._positions, Tensor)
            first = torch.arange(self._count * heads, device=self._positions.device) * self.capacity
            self._places[heads] = first + self._positions.repeat_interleave(heads)
        return self._places[heads]
