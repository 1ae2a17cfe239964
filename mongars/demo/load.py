"""HTTP clients that keep a server busy and record the version that every answer claims; `verify.py` checks it.

They run on their own thread, while the demo runs the cycle.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

RequestKind = Literal["chat", "embedding"]
Claim = tuple[int, str | None]
"""Generation and adapter digest (None for the base) that an answer says it was made with."""

TIMEOUT_S = 120.0
PAUSE_S = 4.0
"""Pause between two requests of a client while the machine trains."""
CHAT_TOKENS = 24
DONE = "data: [DONE]"


@dataclass(frozen=True, slots=True)
class Answer:
    """A request and its answer. `claims` are the distinct ones in it: more than one is a mixed answer."""

    kind: RequestKind
    texts: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the keys that the clients share."""

    url: str
    keys: tuple[str, ...] = field(repr=False)


class Load:
    """`clients` clients, half of them chatting in streams and half embedding, until the context ends.

    They pause between requests until `drop_pauses()` is called.
    """

    def __init__(self, target: Target, texts: Sequence[str], *, clients: int = 8) -> None:
        self._target = target
        self._texts = tuple(texts)
        self._clients = clients
        self._answers: deque[Answer] = deque()
        self._arrived = threading.Condition()
        self._pause_s = PAUSE_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="demo-load", daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def drop_pauses(self) -> None:
        """Send the next request as soon as an answer arrives."""
        self._pause_s = 0.0

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Return all answers so far."""
        with self._arrived:
            return tuple(self._answers)

    def wait_for(self, kind: RequestKind, generation: int, count: int, timeout_s: float) -> bool:
        """Return True once `count` answers of `kind` claim `generation`; False after `timeout_s` seconds."""

        def enough() -> bool:
            claimed = sum(
                answer.kind == kind and any(claim[0] == generation for claim in answer.claims)
                for answer in self._answers
            )
            return claimed >= count

        with self._arrived:
            return self._arrived.wait_for(enough, timeout_s)

    async def _run(self) -> None:
        async with httpx.AsyncClient(base_url=self._target.url, timeout=TIMEOUT_S) as http:
            await asyncio.gather(*(self._client(http, number) for number in range(self._clients)))

    async def _client(self, http: httpx.AsyncClient, number: int) -> None:
        key = self._target.keys[number % len(self._target.keys)]
        headers = {"authorization": f"Bearer {key}"}
        position = number
        while not self._stop.is_set():
            first = position % len(self._texts)
            if number % 2:
                answer = await _request("embedding", self._texts[first : first + 4], http, headers)
            else:
                answer = await _request("chat", (self._texts[first],), http, headers)
            with self._arrived:
                self._answers.append(answer)
                self._arrived.notify_all()
            position += self._clients
            if self._pause_s:
                await asyncio.to_thread(self._stop.wait, self._pause_s)


async def _request(
    kind: RequestKind, texts: tuple[str, ...], http: httpx.AsyncClient, headers: dict[str, str]
) -> Answer:
    """Return the answer; a failed request is a result, not an error."""
    send = _chat if kind == "chat" else _embed
    try:
        return await send(texts, http, headers)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return Answer(kind, texts, failure=f"{type(error).__name__}: {error}")


async def _embed(texts: tuple[str, ...], http: httpx.AsyncClient, headers: dict[str, str]) -> Answer:
    body = {"model": "mongars-encoder", "input": list(texts), "encoding_format": "float"}
    response = await http.post("/v1/embeddings", json=body, headers=headers)
    response.raise_for_status()
    answer = response.json()
    vectors = tuple(tuple(row["embedding"]) for row in answer["data"])
    return Answer("embedding", texts, (_claim(answer["mongars"]),), vectors)


async def _chat(texts: tuple[str, ...], http: httpx.AsyncClient, headers: dict[str, str]) -> Answer:
    body = {
        "model": "mongars",
        "messages": [{"role": "user", "content": texts[0]}],
        "max_tokens": CHAT_TOKENS,
        "stream": True,
    }
    claims: list[Claim] = []
    finished = False
    async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line == DONE:
                finished = True
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise ValueError(event["error"]["message"])
                claims.append(_claim(event["mongars"]))
    if not finished:
        raise ValueError("the stream ended without [DONE]")
    return Answer("chat", texts, tuple(dict.fromkeys(claims)))


def _claim(stamp: dict[str, Any]) -> Claim:
    return stamp["version"], stamp["digest"]
