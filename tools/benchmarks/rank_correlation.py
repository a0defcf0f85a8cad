"""How well do supernets rank? Archs trained alone, beside their scores with inherited weights.

    python -m tools.benchmarks.rank_correlation EXPERIMENT --num-archs 24 --band 24 \
        --repeat-seeds 8 --supernet NAME=FILE ... --output DIR

Archs are drawn spread over the costs of the space, and a second set within a narrow band of costs.
Each is trained from scratch by the experiment's retrain schedule and measured on the test people;
then each is scored by every supernet, on the people held out for the search, as a search would.
Every measurement is a line of DIR/measurements.jsonl; the same command resumes.
DIR/ranking.md says how well scores, MACs and parameters agree with the AP of training alone, and
how well that agrees with itself under another seed: what is missing there no supernet can know.
Of a set whose architectures were all trained twice it says the same of the mean of both.

Without --supernet, those below DIR/supernets (of tools/benchmarks/compare_supernets.py) are taken.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tools.benchmarks.command import command_line
from tools.benchmarks.ranking_bench import (
    Measure,
    Place,
    Source,
    draw_people,
    in_processes,
    measured,
)
from tools.benchmarks.ranking_report import Floats, Ranking, scatter, text_of
from vipnas.arch.image import Arch
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.counting import count_cost
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.run_folder import made_with
from vipnas.search.journal import Journal
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.training.sampling import nearest_to

NUM_DRAWS = 256
MOST_DRAWS = 100_000
SEEDS = (0, 1)


# ---- which architectures


def spread_archs(space: SearchSpace, count: int, rng: random.Random) -> list[Arch]:
    """One architecture for each of `count` equal intervals between the extremes of MACs."""
    lowest, highest = (count_cost(arch).macs for arch in (space.min_arch(), space.max_arch()))
    archs: list[Arch] = []
    for number in range(count):
        target = lowest + (highest - lowest) * (number + rng.random()) / count
        near = nearest_to(target, space, count_cost, NUM_DRAWS, rng)
        archs.append(next(arch for arch in near if arch not in archs))
    return archs


def band_archs(space: SearchSpace, count: int, width: float, rng: random.Random) -> list[Arch]:
    """Different architectures, drawn evenly from a band of MACs around the median of the space.

    `width` is that of the band, as a share of its centre. Raises ValueError if there are too few.
    """
    centre = median(count_cost(space.sample(rng)).macs for _ in range(1000))
    archs: list[Arch] = []
    for _ in range(MOST_DRAWS):
        if len(archs) == count:
            return archs
        arch = space.sample(rng)
        if abs(count_cost(arch).macs - centre) <= centre * width / 2 and arch not in archs:
            archs.append(arch)
    raise ValueError(
        f"only {len(archs)} of {count} archs within {width:.0%} of {centre:,.0f} MACs in"
        f" {MOST_DRAWS} draws; allowed: a wider --band-width or a smaller --band"
    )


# ---- the report


def ranking_of(
    archs: Sequence[Arch],
    num_spread: int,
    supernets: dict[str, Path],
    measure: Measure,
    journal: Journal,
) -> Ranking:
    """The measurements, by who made them."""
    scores: dict[str, dict[int, float]] = {}
    for trial in journal.trials:
        assert trial.score is not None
        scores.setdefault(trial.method, {})[trial.number] = trial.score

    def by_number(source: Source) -> Floats:
        return np.array([scores[source.method()][number] for number in range(len(archs))])

    return Ranking(
        [count_cost(arch) for arch in archs],
        num_spread,
        by_number(Source(SEEDS[0])),
        scores.get(Source(SEEDS[1]).method(), {}),
        {name: by_number(Source(0, file, measure)) for name, file in supernets.items()},
    )


def write_report(
    output: Path, heading: str, ranking: Ranking, archs: Sequence[Arch], supernets: dict[str, Path]
) -> None:
    """ranking.json, ranking.png and ranking.md."""
    document = ranking.document()
    text = heading + text_of(document, ranking) + _training_table(supernets)
    document["archs"] = [
        {"arch": to_plain(arch), **to_plain(cost), "alone": ranking.alone[number]}
        | {"again": ranking.again.get(number)}
        | {name: scores[number] for name, scores in ranking.inherited.items()}
        for number, (arch, cost) in enumerate(zip(archs, ranking.costs, strict=True))
    ]
    write_atomically(output / "ranking.json", json.dumps(document, indent=1) + "\n")
    scatter(output / "ranking.png", ranking.predictors, ranking.alone, ranking.num_spread)
    write_atomically(output / "ranking.md", text)
    print(text)


def _training_table(supernets: dict[str, Path]) -> str:
    lines = [
        "",
        "## Training of the supernets",
        "",
        "| supernet | epochs | seconds |",
        "|---|---|---|",
    ]
    for name, file in supernets.items():
        settings = made_with(file)
        seconds = file.with_name("seconds.json")
        taken = f"{read_json(seconds):.0f}" if seconds.exists() else ""
        lines.append(f"| {name} | {settings['supernet']['schedule']['epochs']:.2f} | {taken} |")
    return "\n".join(lines) + "\n" if supernets else ""


# ---- the command line


def main() -> int:
    options = _parser().parse_args()
    try:
        run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"rank_correlation: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    experiment = find_shipped("experiments", options.experiment)
    place = Place(experiment, options.output, options.data_root, options.epochs, options.device)
    opened = place.open()
    space = opened.space
    archs = spread_archs(space, options.num_archs, random.Random(options.seed))
    if options.band:
        rng = random.Random(options.seed + 1)
        archs += band_archs(space, options.band, options.band_width, rng)
    supernets = supernet_files(options.supernet, options.output)
    num_band = options.repeat_seeds if options.repeat_band is None else options.repeat_band
    repeated = every_nth(range(options.num_archs), options.repeat_seeds)
    repeated += every_nth(range(options.num_archs, len(archs)), num_band)
    wanted = [(number, Source(SEEDS[0])) for number in range(len(archs))]
    wanted += [(number, Source(SEEDS[1])) for number in repeated]
    wanted += [
        (number, Source(0, file, options.measure))
        for file in supernets.values()
        for number in range(len(archs))
    ]

    draw_people(opened)
    journal = Journal(options.output / "measurements.jsonl", settings_of(opened, archs))
    done = {(trial.number, trial.method) for trial in journal.trials}
    left = [(number, source) for number, source in wanted if (number, source.method()) not in done]
    calls = [(measured, (place, number, archs[number], source)) for number, source in left]
    for trial in in_processes(options.workers, calls):
        journal.append(trial)
        print(
            f"{len(journal.trials)}/{len(done) + len(left)}: {trial.method}, arch"
            f" {trial.number}: {trial.score:.4f}, {trial.cost}, {trial.seconds} s",
            flush=True,
        )
    ranking = ranking_of(archs, options.num_archs, supernets, options.measure, journal)
    heading = f"# Ranking by supernets: {experiment.name}\n\n{command_line()}\n\n"
    write_report(options.output, heading, ranking, archs, supernets)


def settings_of(experiment: Experiment, archs: Sequence[Arch]) -> dict[str, Any]:
    """All that the measurements depend on, but for the supernets."""
    return {
        **experiment.training_settings(),
        "retrain": to_plain(experiment.config.retrain),
        "codec": experiment.config.codec,
        "flip_test": experiment.config.flip_test,
        "archs": [arch.to_json() for arch in archs],
    }


def every_nth(numbers: range, count: int) -> list[int]:
    """`count` of the numbers, evenly spaced; all where there are no more."""
    count = min(count, len(numbers))
    return [numbers[place * len(numbers) // count] for place in range(count)]


def supernet_files(given: Sequence[str], output: Path) -> dict[str, Path]:
    if not given:
        return {
            path.parent.name: path
            for path in sorted(output.glob("supernets/*/supernet.safetensors"))
        }
    files = {}
    for word in given:
        name, equals, file = word.partition("=")
        if not equals or not Path(file).is_file():
            raise ValueError(f"--supernet: found {word!r}, allowed is NAME=FILE of a supernet")
        files[name] = Path(file)
    return files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", help="experiment YAML, a file or a shipped name")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--num-archs", type=int, default=24, help="spread over MACs")
    parser.add_argument("--band", type=int, default=0, help="archs within the band of MACs")
    parser.add_argument("--band-width", type=float, default=0.1, help="share of its centre")
    parser.add_argument("--repeat-seeds", type=int, default=0, help="of each set, trained twice")
    parser.add_argument("--repeat-band", type=int, help="of the band (default: as many)")
    parser.add_argument(
        "--epochs", type=float, help="of training alone (default: as in EXPERIMENT)"
    )
    parser.add_argument("--supernet", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument(
        "--measure", choices=("oks", "ap"), default="oks", help="of scores (oks: as a search)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the archs drawn")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread")
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--device", default="cpu", help="that all the processes use")
    return parser


if __name__ == "__main__":
    sys.exit(main())
