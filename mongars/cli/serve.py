"""`mongars serve`, `keys` and `check`: the application on this machine, its API keys and its configs."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from mongars.cli.options import Json
from mongars.cli.output import emit, say, write
from mongars.settings import load_settings

keys = typer.Typer(help="Create API keys; every request needs one.", no_args_is_help=True)

SCOPES = ("chat", "admin")


@keys.command()
def create(
    user: Annotated[str, typer.Option(help="Owner of the key and of its conversations.")],
    admin: Annotated[bool, typer.Option("--admin", help="Also allow operations: adapters, status.")] = False,
    consent: Annotated[
        bool, typer.Option("--consent", help="The user consents to training on these conversations.")
    ] = False,
    if_none: Annotated[bool, typer.Option("--if-none", help="Do nothing if any key exists.")] = False,
    json: Json = False,
) -> None:
    """Create a key and print it. Only its hash is stored, so it cannot be shown again."""
    from mongars.serving.http.auth import create_key

    settings = load_settings()
    if if_none and settings.keys_file.exists():
        say(f"{settings.keys_file} has keys already.")
        return
    scopes = SCOPES if admin else SCOPES[:1]
    key = create_key(settings.keys_file, user=user, scopes=scopes, consent=consent)
    say(f"A key for {user} ({', '.join(scopes)}). It cannot be shown again:")
    if json:
        emit({"user": user, "scopes": scopes, "consent": consent, "key": key})
    else:
        write(f"{key}\n")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; the default accepts only this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    replicas: Annotated[int, typer.Option(min=1, help="Number of model replicas.")] = 2,
) -> None:
    """Serve chat, embeddings and operations over HTTP (OpenAI-compatible) until Ctrl-C, on a local Ray.

    On a running Ray, use `serve deploy serve_configs/local.yaml`.
    """
    from mongars.serving.app import AppArgs, deploy_ray_service, require_free_port
    from mongars.serving.cluster import ray_session

    settings = load_settings().resolved()
    require_free_port(host, port)
    args = AppArgs.from_settings(settings, llm_replicas=replicas)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say("Starting Ray and the application...")
    with ray_session(settings, None):
        deploy_ray_service(args, host=host, port=port)
        say(f"Ready on http://{host}:{port}/v1 - Ctrl-C stops it.")
        stop.wait()
        say("Stopping.")


def check(
    files: Annotated[list[Path], typer.Argument(help="Serve configs, such as serve_configs/local.yaml.")],
) -> None:
    """Check serve configs before `serve deploy`, which silently ignores a misspelt key."""
    from mongars.serving.strict_config import strict_config

    for path in files:
        strict_config(path)
        say(f"{path}: every key is known and every value fits.")
