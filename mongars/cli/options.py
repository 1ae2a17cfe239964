"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from mongars.records import AdapterKind

JSON_OPTION = typer.Option("--json", help="Print JSON on stdout instead of tables.")
Json = Annotated[bool, JSON_OPTION]
Kind = Annotated[AdapterKind, typer.Option(help="What the adapter is for.")]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Address of a running Ray, or `auto`; by default a local Ray."),
]
ServingRay = Annotated[
    str,
    typer.Option(
        "--ray",
        "--ray-address",
        metavar="ADDRESS",
        help="Address of the server's Ray; `auto` finds the local one.",
    ),
]
Gpu = Annotated[bool, typer.Option("--gpu", help="Give each worker a GPU.")]
Retries = Annotated[int, typer.Option(min=0, help="How often workers that died are restarted.")]
Hyperparameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="OPTION=JSON", help="Set a hyperparameter, such as steps=60 or workers=4; repeatable."
    ),
]
ResumeFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Resume from the checkpoint of another run, for example one with other workers."
    ),
]
InitFrom = Annotated[
    str | None,
    typer.Option(metavar="FOLDER|DIGEST", help="Start from the weights of this adapter."),
]
