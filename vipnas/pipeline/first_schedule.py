"""Fit the stages of a first experiment into the hours at hand."""

from __future__ import annotations

from dataclasses import dataclass

from vipnas.pipeline.stage_seconds import StageSeconds

# Share of the time for the stages: the rest is for metrics and starting.
STAGES_SHARE, SEARCH_SHARE = 0.90, 0.15
# The supernet's share of what the search leaves; the rest is for retraining.
SUPERNET_SHARE = 0.4
MIN_TRIALS, MAX_TRIALS = 20, 300
MIN_EPOCHS = 2.0
NUM_PROBES = 4
BATCH_SIZE = 16


@dataclass(frozen=True)
class Expected:
    """Expected seconds of each stage; those of trainings become the hours of their schedules."""

    supernet: float
    search: float
    retrain: float

    def __str__(self) -> str:
        stages = {
            "supernet": self.supernet,
            "search": self.search,
            "retraining": self.retrain,
        }
        return ", ".join(f"{name} {_in_words(seconds)}" for name, seconds in stages.items())


@dataclass(frozen=True)
class FirstSchedule:
    """Lengths of the stages.

    Attributes:
        num_steps: Steps of the supernet.
        supernet_epochs: Expected epochs of the supernet.
        retrain_epochs: Expected epochs of a network near the budget; a smaller one has more.
        probe_epochs: Epochs between probes, in both trainings.
        num_trials: Scored architectures; random search scores as many.
        seconds: What a step and a score take.
        expected: What the stages take, their probes included.
        hours_needed: The least hours with which both trainings have `MIN_EPOCHS`.
    """

    num_steps: int
    supernet_epochs: float
    retrain_epochs: float
    probe_epochs: float
    num_trials: int
    seconds: StageSeconds
    expected: Expected
    hours_needed: float


def fit_schedule(
    hours: float, seconds: StageSeconds, num_persons: int, num_probed: int, num_shared: int
) -> FirstSchedule:
    """Fill the hours: epochs for both trainings, and as many trials as fit.

    Args:
        hours: Time for the whole run.
        seconds: What a step and a score take.
        num_persons: Training persons.
        num_probed: Subnets that a probe of the supernet measures.
        num_shared: Trials that are scored once for both searches, at most.
    """
    total = 3600 * hours
    trials = int((SEARCH_SHARE * total / seconds.score + num_shared) / 2)
    trials = min(MAX_TRIALS, max(MIN_TRIALS, trials))
    search = (2 * trials - min(trials, num_shared)) * seconds.score
    trainings = STAGES_SHARE * total - search
    supernet, retrain = SUPERNET_SHARE * trainings, (1 - SUPERNET_SHARE) * trainings
    steps_of_epoch = num_persons / BATCH_SIZE
    epoch, probe = seconds.supernet_step * steps_of_epoch, num_probed * seconds.probe
    supernet_epochs = (supernet - NUM_PROBES * probe) / epoch
    if supernet_epochs < NUM_PROBES:  # a probe an epoch
        supernet_epochs = supernet / (epoch + probe)
    between = max(1.0, supernet_epochs / NUM_PROBES)
    epoch_alone = seconds.retrain_step * steps_of_epoch + seconds.probe / between
    shares = SUPERNET_SHARE / (epoch + probe), (1 - SUPERNET_SHARE) / epoch_alone
    least = MIN_EPOCHS / min(shares) + search
    return FirstSchedule(
        num_steps=round(supernet_epochs * steps_of_epoch),
        supernet_epochs=supernet_epochs,
        retrain_epochs=retrain / epoch_alone,
        probe_epochs=between,
        num_trials=trials,
        seconds=seconds,
        expected=Expected(supernet, search, retrain),
        hours_needed=least / (3600 * STAGES_SHARE),
    )


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
