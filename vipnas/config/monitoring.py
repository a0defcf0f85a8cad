"""Settings of what is measured and logged during a training."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from vipnas.files import Strict


@dataclass(frozen=True)
class Monitoring(Strict):
    """What is measured during a training; weights do not depend on it.

    A probe measures the AP of the largest, the smallest and some random subnets. The weights with
    the best mean are kept as `best.safetensors`. Without probes, these are the weights with the
    lowest training loss.

    Attributes:
        probe_epochs: Epochs between probes; null for none.
        probe_persons: Number of validation persons per probe, and at most as many training crops to
            calibrate batch norm.
        random_probes: Number of random subnets per probe.
        loggers: Where numbers and pictures go, besides `metrics.jsonl`: names of
            `vipnas.training.callbacks.loggers`, and of packages that add a logger.
    """

    probe_epochs: PositiveFloat | None = 1.0
    probe_persons: PositiveInt = 100
    random_probes: NonNegativeInt = 2
    loggers: tuple[str, ...] = ("tensorboard",)

    @property
    def num_probed(self) -> int:
        """How many subnets a probe of a supernet measures."""
        return 2 + self.random_probes
