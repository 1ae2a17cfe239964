"""`mongars status`, `chat` and `memory search`: clients of a running server, over HTTP.

The server may be on another machine (MONGARS_SERVER_URL, MONGARS_API_KEY).
"""

import json as jsonlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mongars.cli.options import Json
from mongars.cli.output import emit, facts, say, table, write
from mongars.errors import AuthError, BackendError, MongarsError, UnavailableError
from mongars.settings import load_settings

if TYPE_CHECKING:
    import httpx

memory = typer.Typer(help="Search the memories of your conversations.", no_args_is_help=True)

# A model that was just loaded answers late; a server that is up accepts a connection at once.
TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 5.0
HTTP_ERROR = 400


@contextmanager
def _server() -> Iterator["httpx.Client"]:
    """Yield a client of the server. Raises AuthError without a key, UnavailableError without a server."""
    import httpx

    settings = load_settings()
    if not settings.api_key:
        raise AuthError("No API key.", remedy="Set MONGARS_API_KEY to a key made by `mongars keys create`.")
    timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {settings.api_key}"}
    try:
        with httpx.Client(base_url=settings.server_url, headers=headers, timeout=timeout) as http:
            yield http
    except httpx.TransportError as error:
        raise UnavailableError(
            f"No server answers at {settings.server_url} ({type(error).__name__}).",
            remedy="Start one with `make serve`, or set MONGARS_SERVER_URL.",
        ) from None


def _refuse_errors(response: "httpx.Response") -> None:
    """Raise the error that the server described in OpenAI's error object."""
    if response.status_code < HTTP_ERROR:
        return
    response.read()
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        raise BackendError(f"The server answered {response.status_code} without an error object.") from None
    raise AuthError(message) if response.status_code in {401, 403} else MongarsError(message)


def _request(method: str, path: str, **arguments: Any) -> Any:
    with _server() as http:
        response = http.request(method, path, **arguments)
        _refuse_errors(response)
        return response.json()


def status(json: Json = False) -> None:
    """Show the generation that the server runs, its replicas and their lag (needs the scope `admin`)."""
    answer = _request("GET", "/v1/status")
    if json:
        emit(answer)
        return
    facts("Server", {"generation": answer["generation"], "skew": answer["skew"]})
    rows = [(one["replica"], one["generation"], one["acknowledged_at"]) for one in answer["replicas"]]
    table("Replicas", ("replica", "generation", "acknowledged"), rows)


def chat(
    message: Annotated[str | None, typer.Argument(help="A question; without it a conversation starts.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Id of a conversation to continue.")] = None,
) -> None:
    """Chat with the assistant; replies stream to stdout."""
    if message is not None:
        _one_reply(message, conversation)
        return
    say("An empty line ends the conversation.")
    while question := typer.prompt("you", default="", show_default=False, err=True):
        conversation = _one_reply(question, conversation)


def _one_reply(message: str, conversation: str | None) -> str | None:
    """Stream one reply to stdout and return the id of its conversation."""
    body: dict[str, Any] = {"model": "mongars", "messages": [{"role": "user", "content": message}], "stream": True}
    if conversation:
        body["conversation"] = conversation
    with _server() as http, http.stream("POST", "/v1/chat/completions", json=body) as response:
        _refuse_errors(response)
        for line in response.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = jsonlib.loads(line.removeprefix("data: "))
            if "error" in event:
                raise BackendError(event["error"]["message"])
            conversation = event.get("mongars", {}).get("conversation", conversation)
            for choice in event["choices"]:
                write(choice["delta"].get("content") or "")
    write("\n")
    return conversation


@memory.command("search")
def search(
    query: Annotated[str, typer.Argument(help="Text to search for in your own conversations.")],
    k: Annotated[int, typer.Option(min=1, max=100, help="Number of memories.")] = 5,
    json: Json = False,
) -> None:
    """Find what you and the assistant wrote in earlier conversations."""
    answer = _request("POST", "/v1/memory/search", json={"query": query, "k": k})
    if json:
        emit(answer)
        return
    rows = [(f"{one['score']:.2f}", one["role"], one["text"], one["conversation_id"]) for one in answer["data"]]
    table(f"Memories of {query!r}", ("score", "role", "text", "conversation"), rows)
