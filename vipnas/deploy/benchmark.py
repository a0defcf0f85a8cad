"""Export a network in every form, and measure the size, latency and accuracy of each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.deploy.export import Form, export_network
from vipnas.errors import UserError
from vipnas.latency.interleaved import MAX_SPREAD, ROUNDS, Latency, interleaved
from vipnas.latency.measure import key_of_this_machine, pinned
from vipnas.models.header import ModelHeader
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.exported import ExportedNetwork, open_exported
from vipnas.runtimes.table import runtimes_with_files

Score = Callable[[nn.Module], float]
Say = Callable[[str], object]


@dataclass(frozen=True)
class Row:
    """One exported file, run with one number of threads.

    Attributes:
        format: Name of the file format.
        precision: Precision of the stored weights.
        threads: CPU threads.
        kilobytes: Size of the file, and of what belongs to it.
        latency: Latency of one image.
        ap: COCO AP on the split of an experiment, from 0 to 1; None without one.
    """

    format: str
    precision: str
    threads: int
    kilobytes: float
    latency: Latency
    ap: float | None

    @property
    def fps(self) -> float:
        """Images per second, one at a time."""
        return 1e3 / self.latency.median_ms


def benchmark(
    network: PoseNet,
    header: ModelHeader,
    forms: Sequence[Form],
    threads: Sequence[int] = (1,),
    crops_N3HW: Tensor | None = None,
    score: Score | None = None,
    max_spread: float = MAX_SPREAD,
    say: Say = print,
) -> list[Row]:
    """Export a network in every form; time all files in turn, one image at a time.

    Args:
        network: A network of images, on the CPU.
        header: Its header, written into every file.
        forms: The kinds of files; see `forms_here`.
        threads: Numbers of CPU threads to run with.
        crops_N3HW: uint8 RGB, to calibrate int8 with; files are compared with PyTorch on them.
        score: Returns the AP of a network. It is called once for each file.
        max_spread: The largest accepted spread of the latencies.
        say: Called with a line about each exported file.

    Returns:
        One row for each form and number of threads, in that order.

    Raises:
        UserError: A form cannot be exported, or there are fewer cores than threads.
        TooNoisy: The machine is busy.
    """
    with TemporaryDirectory() as folder:
        files = [
            _exported(network, header, form, Path(folder) / str(number), crops_N3HW, say)
            for number, form in enumerate(forms)
        ]
        sizes = [sum(part.stat().st_size for part in file.parent.iterdir()) for file in files]
        aps = [None if score is None else score(ExportedNetwork(file, 1)) for file in files]
        latencies = {count: _latencies(files, network.arch, count, max_spread) for count in threads}
    return [
        Row(form.format, form.precision, count, sizes[number] / 1e3, latencies[count][number], ap)
        for number, (form, ap) in enumerate(zip(forms, aps, strict=True))
        for count in threads
    ]


def forms_here(
    formats: Sequence[str] | None,
    precisions: Sequence[str] | None,
    with_int8: bool,
    say: Say = print,
) -> list[Form]:
    """Return the forms that this installation can write and run.

    Args:
        formats: Names of file formats; None takes all that are installed, and says which are not.
        precisions: Stored precisions; None takes all of each format.
        with_int8: Whether there are crops to calibrate int8 with.
        say: Called with a line about what is left out.

    Raises:
        UserError: A format or precision is unknown, a named format is not installed, int8 is
            named without crops, or nothing is left.
    """
    named = {file.name: (runtime, file) for runtime, file in runtimes_with_files()}
    for name in formats or ():
        if name not in named:
            raise UserError.not_one_of("--format", named, name)
        named[name][0].check_installed(to_write=True)
    known = {precision for _, file in named.values() for precision in file.precisions}
    for precision in precisions or ():
        if precision not in known:
            raise UserError.not_one_of("--precision", known, precision)
    found = []
    for name, (runtime, file) in named.items():
        if formats is not None and name not in formats:
            continue
        try:
            runtime.check_installed(to_write=True)
        except UserError as error:
            say(f"{name} is left out: {error}")
            continue
        for precision in file.precisions:
            if precisions is not None and precision not in precisions:
                continue
            if precision == "int8" and not with_int8:
                if precisions is not None:
                    hint = "name an experiment by --experiment"
                    raise UserError("--precision int8", "crops to calibrate with", "none", hint)
                say(f"{name} int8 is left out: it is calibrated on crops of --experiment")
                continue
            found.append(Form(name, precision))
    if not found:
        wanted = f"{', '.join(formats or named)} in {', '.join(precisions or sorted(known))}"
        raise UserError("--format, --precision", "a pair that some runtime offers", wanted)
    return found


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a Markdown table of the rows; the column of AP only where it was measured."""
    with_ap = any(row.ap is not None for row in rows)
    titles = ["format", "precision", "threads", "kB", "ms", "spread", "fps"]
    titles += ["AP"] if with_ap else []
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * 2}{'---:|' * (len(titles) - 2)}"
    for row in rows:
        cells = [row.format, row.precision, str(row.threads), f"{row.kilobytes:.0f}"]
        cells += [f"{row.latency.median_ms:.2f}", f"{row.latency.spread:.1%}", f"{row.fps:.0f}"]
        cells += [f"{row.ap:.4f}"] if row.ap is not None else []
        yield f"| {' | '.join(cells)} |"


def _exported(
    network: PoseNet,
    header: ModelHeader,
    form: Form,
    folder: Path,
    crops_N3HW: Tensor | None,
    say: Say,
) -> Path:
    folder.mkdir()
    path = folder / f"network{form.file.suffix}"
    found = export_network(network, path, form, crops_N3HW, header)
    say(f"{form}: differs from PyTorch by {found.difference:.1e} of the largest value")
    return path


def _latencies(files: Sequence[Path], arch: Arch, threads: int, max_spread: float) -> list[Latency]:
    key = key_of_this_machine("torch", arch.input_hw, threads)
    images = np.random.default_rng(0).standard_normal((1, 3, *arch.input_hw), dtype=np.float32)
    with pinned(key):
        sessions = [open_exported(file, threads)[0] for file in files]
        runs = [lambda session=session: session({"images": images}) for session in sessions]
        return interleaved(runs, max_spread, 2 * ROUNDS)
