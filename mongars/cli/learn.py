"""`mongars train` and `self-train`: adapters for the base."""

from pathlib import Path
from typing import Annotated

import typer

from mongars.cli.options import Gpu, Hyperparameters, InitFrom, Json, Ray, ResumeFrom, Retries, ServingRay
from mongars.cli.output import emit, facts, stages
from mongars.errors import GateRefusedError
from mongars.records import as_json
from mongars.settings import load_settings
from mongars.workflows.train import RETRIES, Objective, RunOptions
from mongars.workflows.wiring import DEFAULT_NAME


def train(
    *,
    dataset: Annotated[
        str | None, typer.Argument(help=f"NAME or NAME@VERSION of a dataset; by default {DEFAULT_NAME}.")
    ] = None,
    dataset_option: Annotated[str | None, typer.Option("--dataset", hidden=True)] = None,
    objective: Annotated[
        Objective,
        typer.Option(
            help="`mntp`, stage 1, predicts masked tokens; `contrastive`, stage 2, learns text similarity."
        ),
    ] = "mntp",
    hyperparameters: Hyperparameters = None,
    init_from: InitFrom = None,
    resume_from: ResumeFrom = None,
    gpu: Gpu = False,
    retries: Retries = RETRIES,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the training runs; MONGARS_HOME/training by default.")
    ] = None,
    ray: Ray = None,
    json: Json = False,
) -> None:
    """Train an adapter on a dataset version. The same dataset and recipe are not trained twice.

    Ctrl-C stops the run at a checkpoint; the same command resumes it.

    `--set min_workers=1 --set workers=8` trains with as many workers as the cluster has room for.
    """
    from mongars.workflows.train import train as train_adapter

    with stages() as progress:
        trained = train_adapter(
            load_settings().resolved(),
            dataset or dataset_option or DEFAULT_NAME,
            objective=objective,
            hyperparameters=hyperparameters or (),
            run=RunOptions(gpu, retries, resume_from, init_from),
            output=output,
            ray=ray,
            progress=progress,
        )
    if json:
        emit(as_json(trained))
    else:
        facts("Adapter", {"folder": trained.folder, "trained before": trained.reused} | dict(trained.metrics))


def self_train(
    *,
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")] = DEFAULT_NAME,
    adapter: Annotated[
        str | None, typer.Option(help="Name of the adapter; by default that of the dataset.")
    ] = None,
    hyperparameters: Hyperparameters = None,
    stage_2: Annotated[
        bool, typer.Option("--stage-2", help="Also train stage 2, from stage 1's adapter; retrieval then decides.")
    ] = False,
    stage_2_hyperparameters: Annotated[
        list[str] | None,
        typer.Option("--set-2", metavar="OPTION=JSON", help="Set a hyperparameter of stage 2; repeatable."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, help="Smallest gain: in nats per target, or with --stage-2 in nDCG@10.")
    ] = 0.0,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest significant loss of turn retrieval, in nDCG@10.")
    ] = 0.0,
    init_from: InitFrom = None,
    resume_from: ResumeFrom = None,
    gpu: Gpu = False,
    retries: Retries = RETRIES,
    ray: ServingRay = "auto",
    json: Json = False,
) -> None:
    """Run one cycle against a running server: curate, train, judge, publish to every replica.

    Exit code 3 means that the gate refused the adapter.
    """
    from mongars.workflows.self_train import CyclePlan, compared
    from mongars.workflows.self_train import self_train as run_cycle

    plan = CyclePlan(
        dataset=dataset,
        adapter=adapter or dataset,
        hyperparameters=hyperparameters or (),
        stage_2=stage_2,
        stage_2_hyperparameters=stage_2_hyperparameters or (),
        margin=margin,
        tolerance=tolerance,
        run=RunOptions(gpu, retries, resume_from, init_from),
    )
    with stages() as progress:
        report = run_cycle(load_settings().resolved(), plan, ray=ray, progress=progress)
    if json:
        emit(as_json(report))
    else:
        facts(
            "Cycle",
            {
                "outcome": report.outcome,
                "generation": report.generation,
                "dataset": f"{report.dataset.name}@{report.dataset.version}",
                "adapter": report.digest[:12],
            }
            | dict(compared(report.champion, report.candidate))
            | {"gate": report.verdict.reason if report.verdict else None},
        )
    if report.outcome == "refused":
        raise GateRefusedError("The candidate is not significantly better; the served version stays.")
