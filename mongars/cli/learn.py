"""`mongars train` and `self-train`: adapters made on this machine.

Owns the commands only.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mongars.cli.data import DEFAULT_DATASET
from mongars.cli.output import JSON_OPTION, emit, facts, progress, stages
from mongars.errors import GateRefusedError, SettingsError
from mongars.records import as_json
from mongars.settings import load_settings

Json = Annotated[bool, JSON_OPTION]
Knobs = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KNOB=JSON", help="A knob of the recipe, such as steps=60; repeat it."),
]
Objective = Literal["mntp", "contrastive"]
RayAddress = Annotated[str | None, typer.Option(help="Ray address, or `auto`; a local Ray by default.")]


def train(
    dataset: Annotated[str, typer.Argument(help="NAME or NAME@VERSION of a dataset.")] = DEFAULT_DATASET,
    objective: Annotated[
        Objective,
        typer.Option(help="Stage 1 predicts masked tokens; `contrastive`, stage 2, learns which texts are alike."),
    ] = "mntp",
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|DIGEST", help="Adapter whose weights the run starts from: stage 1's, for stage 2."
        ),
    ] = None,
    knobs: Knobs = None,
    resume_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checkpoint of another run, of other workers say, to go on from."),
    ] = None,
    ray: RayAddress = None,
    json: Json = False,
) -> None:
    """Train an adapter from a dataset version; the same dataset and recipe are not trained twice.

    Ctrl-C keeps where the run is; the same command goes on from there.
    """
    from mongars.serving.cluster import ray_session
    from mongars.training.config import RECIPES, config_from
    from mongars.workflows.assembly import train_adapter

    name, _, version = dataset.partition("@")
    settings = load_settings().resolved()
    config = config_from(RECIPES[objective], knobs or ())
    with ray_session(settings, ray), progress("Training") as bar:
        trained = train_adapter(
            settings,
            name,
            version or "latest",
            config,
            on_progress=lambda step, total, loss, rate: bar.update(step, total, _pace(loss, rate)),
            resume_from=resume_from,
            init_from=init_from,
        )
    if json:
        emit(as_json(trained))
    else:
        facts("Adapter", {"folder": trained.folder, "as it was": trained.reused} | dict(trained.metrics))


def self_train(
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")] = DEFAULT_DATASET,
    margin: Annotated[
        float, typer.Option(min=0, help="Least gain: in nats per target, or after stage 2 in nDCG@10.")
    ] = 0.0,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Most that turn retrieval may surely lose, in nDCG@10.")
    ] = 0.0,
    knobs: Knobs = None,
    stage_2: Annotated[
        bool, typer.Option("--stage-2", help="Train stage 2 from stage 1's adapter; retrieval then decides.")
    ] = False,
    knobs_2: Annotated[
        list[str] | None,
        typer.Option("--set-2", metavar="KNOB=JSON", help="A knob of stage 2's recipe; repeat it."),
    ] = None,
    ray: Annotated[
        str, typer.Option(help="Address of the Ray that serves; `auto` finds the one on this machine.")
    ] = "auto",
    json: Json = False,
) -> None:
    """Run one cycle beside a running server: curate, train, judge, publish to every replica."""
    from mongars.evaluation.metrics import compared
    from mongars.evolution.gate import GateConfig
    from mongars.registry.actor import BlockingRegistryClient
    from mongars.serving.cluster import ray_session
    from mongars.training.config import MNTPConfig, config_from, stage_2_after
    from mongars.workflows.assembly import CyclePlan, build_engine

    settings = load_settings().resolved()
    if knobs_2 and not stage_2:
        raise SettingsError("--set-2 without --stage-2.", remedy="Add --stage-2.")
    training = config_from(MNTPConfig, knobs or ())
    with ray_session(settings, ray), stages() as show:
        plan = CyclePlan(
            dataset=dataset,
            adapter=dataset,
            training=training,
            stage_2=stage_2_after(training, knobs_2 or ()) if stage_2 else None,
            gate=GateConfig(margin=margin, tolerance=tolerance),
            on_curate=show.update,
            on_train=lambda step, total, loss, rate: show.update(step, total, _pace(loss, rate)),
        )
        client = BlockingRegistryClient.connect(settings.ray_namespace)
        report = build_engine(settings, client, plan).run_cycle(show.stage)
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
        raise GateRefusedError("The candidate is not measurably better; what was served goes on.")


def _pace(loss: float, tokens_per_second: float) -> str:
    return f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s"
