"""`mongars pretrain`, and the hidden commands that make what the package ships: `corpus`, `train-name-tagger`."""

from pathlib import Path
from typing import Annotated

import typer

from mongars.cli.options import Gpu, Hyperparameters, Json, Ray, Retries
from mongars.cli.output import emit, facts, stages, table
from mongars.records import as_json
from mongars.settings import load_settings
from mongars.workflows.train import RETRIES


def pretrain(
    *,
    inputs: Annotated[
        list[Path],
        typer.Option(
            "--input",
            help="JSONL or .jsonl.gz of conversations or texts; repeatable. A repeated file counts more.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write the base to; it must be empty or new.")],
    heldout: Annotated[Path | None, typer.Option(help="File to measure on; it is never trained on.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder of the run's state; MONGARS_HOME/pretraining by default.")
    ] = None,
    hyperparameters: Hyperparameters = None,
    gpu: Gpu = False,
    retries: Retries = RETRIES,
    ray: Ray = None,
    json: Json = False,
) -> None:
    """Make a base model from scratch, from conversations (`{"id", "messages"}`) or texts (`{"text"}`).

    Ctrl-C stops the run at a checkpoint; the same command resumes it.
    """
    from mongars.workflows.pretrain import PretrainOptions
    from mongars.workflows.pretrain import pretrain as make_base

    options = PretrainOptions(
        hyperparameters=hyperparameters or (), heldout=heldout, work=work, gpu=gpu, retries=retries
    )
    with stages() as progress:
        made = make_base(load_settings().resolved(), inputs, output, options, ray=ray, progress=progress)
    summary = {"folder": str(made.folder), "digest": made.digest, "run_id": made.run_id}
    emit(summary) if json else facts("Base", summary)
    raise typer.Exit(1 if made.bad_lines else 0)


def corpus(
    data: Annotated[Path, typer.Option(help="Folder with the files of the public data sets.")],
    output: Annotated[Path, typer.Option(help="Folder for the gathered text.")],
    seed: Annotated[int, typer.Option(help="Chooses the conversations that get a system message.")] = 0,
    json: Json = False,
) -> None:
    """Gather the text of mongars-nano from public data sets, for `pretrain`."""
    from mongars.workflows.pretrain import gather_corpus

    with stages() as progress:
        accounts = gather_corpus(data, output, seed=seed, progress=progress)
    if json:
        emit([as_json(account) for account in accounts])
        return
    columns = ("source", "documents", "words", "characters", "licence")
    sizes = [(each.documents, each.words, each.characters) for each in accounts]
    rows = [
        (each.name, *(f"{size:,}" for size in counts), each.licence)
        for each, counts in zip(accounts, sizes, strict=True)
    ]
    total = ("all", *(f"{sum(column):,}" for column in zip(*sizes, strict=True)), "")
    table("Corpus", columns, [*rows, total])


def name_tagger(
    train: Annotated[Path, typer.Option(help="CoNLL file to train on.")],
    heldout: Annotated[Path, typer.Option(help="CoNLL file to measure on.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder of the weights; by default the one that the package loads.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the generated sentences.")] = None,
    json: Json = False,
) -> None:
    """Train the tagger of person names that the package ships, and measure it.

    Write the card next to the weights by hand: it quotes these figures.
    """
    from mongars.workflows.train_name_tagger import train_name_tagger

    figures = train_name_tagger(train, heldout, output=output, seed=seed)
    emit(figures) if json else facts("Name tagger", figures)
