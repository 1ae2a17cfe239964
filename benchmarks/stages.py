"""What each training stage adds to a base as an encoder, over several seeds: LLM2Vec's table.

    MONGARS_HOME=DIR python benchmarks/stages.py --dataset NAME --data FOLDER [--seeds 0 1 2] [--json]

The variants are those of LLM2Vec (arXiv 2404.05961): the causal base, the bidirectional base, MNTP, and
contrastive training from each of the last two; BM25 for comparison. Each seed trains its own adapters with
`AdapterTrainer` on a dataset of the catalog. Existing adapters are reused, so an interrupted run resumes. The
measures are those of `encoder_quality.py`, on the same pairs and queries for every variant and seed.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import markdown, run
from benchmarks.encoder_quality import METRICS, Measure
from mongars.cli.output import Stages
from mongars.curation.catalog.catalog import DatasetCatalog
from mongars.evaluation.bootstrap import Estimate
from mongars.lm.adapters import attach_adapter
from mongars.lm.base import Base, load_base
from mongars.lm.base_files import base_name
from mongars.neurons.bidirectional import bidirectional_encoder, causal_encoder
from mongars.neurons.neurons import Neurons
from mongars.serving.cluster import ray_session
from mongars.settings import Settings, load_settings
from mongars.training.config import RECIPES, AdapterRecipe, config_from
from mongars.training.trainer import AdapterTrainer

MNTP = "MNTP"


@dataclass(frozen=True)
class Way:
    """How an adapter is trained: objective, kind of pairs, and the variant whose adapter it starts from."""

    name: str
    objective: str
    pairs: str | None = None
    after: str | None = None


WAYS = (
    Way(MNTP, "mntp"),
    Way("SimCSE", "contrastive", "simcse"),
    Way("turns", "contrastive", "turns"),
    Way("MNTP, then SimCSE", "contrastive", "simcse", after=MNTP),
    Way("MNTP, then turns", "contrastive", "turns", after=MNTP),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure, print the table, and return the exit code."""
    flags = _flags().parse_args(arguments)
    return run(lambda progress: measure(flags, progress), None if flags.json else show)


def measure(flags: argparse.Namespace, progress: Stages) -> dict[str, Any]:
    """Return the figures of every variant and seed, and the data they were measured on."""
    settings = load_settings().resolved()
    measured = Measure.of(flags.data, flags.pool, seed=0)
    base = load_base(settings.base_model)
    progress.stage("untrained")
    untrained = {"causal base": causal_encoder(base), "bidirectional, untrained": bidirectional_encoder(base)}
    rows: dict[str, list[dict[str, Any]]] = {"BM25": [measured.bm25()]}
    for name, encoder in untrained.items():
        rows[name] = [measured.encoder(Neurons(encoder, base.tokenizer))]
    with ray_session(settings, None):
        adapters = {seed: dict(_trained(flags, settings, seed, progress)) for seed in flags.seeds}
    for way in WAYS:
        progress.stage(f"measure {way.name}")
        rows[way.name] = [_figures(measured, base, adapters[seed][way.name]) for seed in flags.seeds]
    return {
        "base": {"name": base_name(settings.base_model), "digest": base.digest},
        "dataset": flags.dataset,
        "seeds": flags.seeds,
        "recipes": {way.name: _recipe(way, flags, 0).model_dump(mode="json") for way in WAYS},
        "pool": flags.pool,
        "sts_pairs": len(measured.sts.scores),
        "rows": rows,
    }


def show(result: Mapping[str, Any]) -> str:
    """Return the table: mean, minimum and maximum over seeds; a bootstrap interval where there is no seed."""
    rows = [[name, *(_cell(figures, metric) for metric in METRICS)] for name, figures in result["rows"].items()]
    seeds = ", ".join(map(str, result["seeds"]))
    return "\n".join(
        [
            markdown(["", *METRICS.values()], rows),
            f"Base {result['base']['name']}, digest {result['base']['digest']}, dataset {result['dataset']}.  ",
            f"Trained: mean over the seeds {seeds} (in brackets minimum and maximum). Others: in brackets "
            f"95 % bootstrap intervals over {result['sts_pairs']} pairs and {result['pool']} queries.\n",
        ]
    )


def _cell(figures: Sequence[Mapping[str, Any]], metric: str) -> str:
    if metric not in figures[0]:
        return ""
    if len(figures) == 1:
        return str(Estimate(**figures[0][metric]))
    values = [each[metric]["value"] for each in figures]
    return str(Estimate(fmean(values), min(values), max(values)))


def _trained(
    flags: argparse.Namespace, settings: Settings, seed: int, progress: Stages
) -> Iterator[tuple[str, Path]]:
    """Yield (variant, adapter folder) for a seed, each trained after the one it starts from."""
    catalog = DatasetCatalog(settings.datasets_dir)
    name, _, version = flags.dataset.partition("@")
    dataset = catalog.get(name, version or "latest")
    catalog.require_ready(dataset)
    done: dict[str, Path] = {}
    for way in WAYS:
        progress.stage(f"{way.name}, seed {seed}")
        trainer = AdapterTrainer(
            _recipe(way, flags, seed),
            parts=catalog.parts(dataset),
            dataset=dataset,
            base_path=settings.base_model,
            output_dir=settings.training_dir,
            tracking_uri=settings.tracking,
            on_progress=lambda step, steps, loss, _: progress.update(step, steps, f"loss {loss:.3f}"),
            init_from=done[way.after] if way.after else None,
        )
        done[way.name] = trainer.train().folder
        yield way.name, done[way.name]


def _recipe(way: Way, flags: argparse.Namespace, seed: int) -> AdapterRecipe:
    """Return the recipe of a variant: the same options with and without MNTP before it."""
    options = [f"seed={seed}", "workers=1", f"threads={flags.threads}"]
    if way.pairs:
        options += [f'pairs="{way.pairs}"', *flags.set_contrastive]
        options += ["dropout=0.0"] if way.pairs == "turns" else []  # a turn and its reply differ without dropout
    else:
        options += flags.set_mntp
    return config_from(RECIPES[way.objective], options)


def _figures(measured: Measure, base: Base, adapter: Path) -> dict[str, Any]:
    encoder = attach_adapter(bidirectional_encoder(base), adapter)
    return measured.encoder(Neurons(encoder, base.tokenizer))


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what each training stage adds, over several seeds.")
    parser.add_argument("--dataset", required=True, metavar="NAME[@VERSION]", help="a version of the catalog")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data of encoder_quality.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set-mntp", action="append", default=[], metavar="OPTION=JSON")
    parser.add_argument("--set-contrastive", action="append", default=[], metavar="OPTION=JSON")
    parser.add_argument("--pool", type=int, default=1000, help="number of replies to choose from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
