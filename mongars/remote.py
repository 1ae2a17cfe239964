"""Client methods that take their name and signature from the method they call in another process.

    class MemoryClient:
        recall = AsyncMethod(MemoryDeployment.recall)
        export = StreamMethod(MemoryDeployment.export)

`MemoryClient().recall` accepts the arguments of `MemoryDeployment.recall`, which mypy checks, and passes them as a
`Call` to the client's own `call`, which knows the transport, its timeouts and its errors.
"""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a remote method. `waits_s` is how long the method itself may wait, by its own arguments."""

    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    waits_s: float = 0.0

    def send(self, handle: Any) -> Any:
        """Start the call on a handle of Ray or of Ray Serve; return Ray's reference to the result."""
        return getattr(handle, self.method).remote(*self.args, **(self.kwargs or {}))


class AsyncClient(Protocol):
    """The owner of an AsyncMethod."""

    async def call(self, call: Call) -> Any:
        """Return the result of a call."""
        ...


class BlockingClient(Protocol):
    """The owner of a BlockingMethod."""

    def call(self, call: Call) -> Any:
        """Return the result of a call."""
        ...


class StreamClient(Protocol):
    """The owner of a StreamMethod."""

    def stream(self, call: Call) -> AsyncGenerator[Any, None]:
        """Yield the results of a call, and cancel it when the caller leaves early."""
        ...


class _RemoteMethod(Generic[P]):
    """`waits` names the argument, in seconds, that a long poll spends waiting before it answers."""

    def __init__(self, method: Callable[Concatenate[Any, P], object], *, waits: str | None = None) -> None:
        self._name = method.__name__
        self._signature = inspect.signature(method)
        self._waits = waits
        self.__doc__ = method.__doc__
        if waits is not None and waits not in self._signature.parameters:
            raise TypeError(f"{method.__qualname__} has no parameter {waits}")

    def _call(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        waits_s = 0.0
        if self._waits is not None:
            bound = self._signature.bind(None, *args, **kwargs)
            bound.apply_defaults()
            waits_s = bound.arguments[self._waits]
        return Call(self._name, args, kwargs, waits_s)


class AsyncMethod(_RemoteMethod[P], Generic[P, R]):
    """A coroutine method of a remote class, awaited by its client."""

    def __init__(self, method: Callable[Concatenate[Any, P], Awaitable[R]], *, waits: str | None = None) -> None:
        super().__init__(method, waits=waits)

    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, R]]:
        async def method(*args: P.args, **kwargs: P.kwargs) -> R:
            result: R = await client.call(self._call(*args, **kwargs))
            return result

        return method


class BlockingMethod(_RemoteMethod[P], Generic[P, R]):
    """A coroutine method of a remote class that blocks its client until the result arrives."""

    def __init__(self, method: Callable[Concatenate[Any, P], Awaitable[R]], *, waits: str | None = None) -> None:
        super().__init__(method, waits=waits)

    def __get__(self, client: BlockingClient, owner: type) -> Callable[P, R]:
        def method(*args: P.args, **kwargs: P.kwargs) -> R:
            result: R = client.call(self._call(*args, **kwargs))
            return result

        return method


class StreamMethod(_RemoteMethod[P], Generic[P, R]):
    """An asynchronous generator of a remote class."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncGenerator[R, None]]) -> None:
        super().__init__(method)

    def __get__(self, client: StreamClient, owner: type) -> Callable[P, AsyncGenerator[R, None]]:
        def method(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
            return client.stream(self._call(*args, **kwargs))

        return method
