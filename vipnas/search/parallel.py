"""Score in many processes, on one machine or a cluster, by Ray.

An architecture whose heatmaps are not finite, or that does not fit into memory, would fail again:
that is recorded at once. A worker that dies or exceeds the time limit may be the machine's fault:
it is replaced and the architecture is scored again. Only a second loss is recorded as a failure. So
a killed worker costs time and changes no trial.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import re
import time
from collections import deque
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Generic

from vipnas.errors import UserError
from vipnas.search.constraints import A
from vipnas.search.ray_cluster import RaySettings, import_ray, start_ray
from vipnas.search.workers import MakeEvaluate, Scored, scored

log = logging.getLogger(__name__)

# Time for the first worker to start, with imports and crops, on a slow file system.
SECONDS_TO_START = 600.0
LOST_WHILE_STARTING = 3


@dataclass(frozen=True)
class _Task(Generic[A]):
    number: int
    arch: A
    floor: float | None
    retried: str | None = None


class _Scorer(Generic[A]):
    """Runs in a worker and holds the supernet and the crops."""

    def __init__(self, shared: tuple[Any]) -> None:
        self.shared = shared

    def start(self) -> str:
        """Build the function that scores.

        Not in the constructor, whose exceptions Ray would wrap in its own.

        Returns:
            The name of the worker.
        """
        make_evaluate: MakeEvaluate[A] = import_ray().get(self.shared[0])
        self.evaluate = make_evaluate()
        return f"{platform.node()}:{os.getpid()}"

    def score(self, number: int, arch: A, floor: float | None) -> Scored:
        return scored(self.evaluate, number, arch, floor)


class _Worker(Generic[A]):
    """A worker as the search sees it: starting, idle, or busy with a task."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.name: str | None = None
        self.task: _Task[A] | None = None
        self.result: Any = actor.start.remote()
        self.since = time.monotonic()

    def begin(self, task: _Task[A]) -> None:
        self.task = task
        self.result = self.actor.score.remote(task.number, task.arch, task.floor)
        self.since = time.monotonic()


class RayWorkers(Generic[A]):
    """Score architectures in Ray actors; a context manager that ends them.

    They start when the first architecture is submitted.

    Args:
        make_evaluate: Called in each worker; returns the function that scores. It is put into the
            object store once, and workers of a machine share its numpy arrays.
        settings: Number and size of the workers.
    """

    def __init__(self, make_evaluate: MakeEvaluate[A], settings: RaySettings) -> None:
        self.make_evaluate = make_evaluate
        self.settings = settings
        self.queue: deque[_Task[A]] = deque()
        self.workers: list[_Worker[A]] = []
        self.lost_while_starting = 0
        self.owns_ray = False

    def __enter__(self) -> RayWorkers[A]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.workers:
            return
        ray = import_ray()
        for worker in self.workers:
            ray.kill(worker.actor)
        self.workers.clear()
        if self.owns_ray:
            ray.shutdown()

    def submit(self, number: int, arch: A, floor: float | None = None) -> None:
        if not self.workers:
            self._start()
        self.queue.append(_Task(number, arch, floor))
        self._assign()

    def next(self) -> Scored:
        """Wait for the next result and return it.

        An exception in a worker that is a bug is raised here too.

        Raises:
            UserError: If no worker can be started.
        """
        ray = import_ray()
        while True:
            self._assign()
            busy = [worker for worker in self.workers if worker.result is not None]
            slowest = min(busy, key=self._deadline)
            seconds = self._deadline(slowest) - time.monotonic()
            results = [worker.result for worker in busy]
            ready, _ = ray.wait(results, timeout=None if math.isinf(seconds) else max(0, seconds))
            if ready:
                found = self._collect(busy[results.index(ready[0])])
            else:
                found = self._overdue(slowest)
            if found is not None:
                return found

    def _start(self) -> None:
        ray = import_ray()
        settings = self.settings
        self.owns_ray = start_ray(settings)
        self.shared = ray.put(self.make_evaluate)
        self.workers = [self._new_worker() for _ in range(settings.num_workers)]

    def _new_worker(self) -> _Worker[A]:
        actor = (
            import_ray()
            .remote(_Scorer)
            .options(
                num_cpus=self.settings.threads,
                num_gpus=self.settings.gpus_per_worker,
                max_restarts=0,
            )
        )
        return _Worker(actor.remote((self.shared,)))

    def _assign(self) -> None:
        for worker in self.workers:
            if self.queue and worker.result is None:
                worker.begin(self.queue.popleft())

    def _deadline(self, worker: _Worker[A]) -> float:
        if worker.task is not None:
            limit = self.settings.seconds_limit
            return math.inf if limit is None else worker.since + limit
        # A worker may wait long for a place in the cluster while others are busy.
        alone = all(other.name is None for other in self.workers)
        return worker.since + SECONDS_TO_START if alone else math.inf

    def _collect(self, worker: _Worker[A]) -> Scored | None:
        """Return the worker's score; None if it has just started or was lost."""
        ray = import_ray()
        try:
            found: Any = ray.get(worker.result)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ray.exceptions.RayError):  # a module that is missing there
                last = str(error.cause).strip().splitlines()[-1]
                raise UserError(
                    "workers", "a worker that can be set up", "an error", last
                ) from None
            raise error.cause from None
        except ray.exceptions.RayError as error:
            return self._lost(worker, f"the worker died: {_reason(error)}")
        worker.result = None
        if worker.task is None:
            worker.name, self.lost_while_starting = found, 0
            return None
        retried, worker.task = worker.task.retried, None
        assert isinstance(found, Scored)
        return replace(found, worker=worker.name, retried=retried)

    def _overdue(self, worker: _Worker[A]) -> Scored | None:
        ray = import_ray()
        ray.kill(worker.actor)
        if worker.task is None:
            raise UserError(
                "workers",
                f"a start within {SECONDS_TO_START:.0f} s",
                "none",
                f"each needs {self.settings.threads} cores and {self.settings.gpus_per_worker:g}"
                f" GPUs, Ray has {ray.cluster_resources()}",
            )
        return self._lost(worker, f"no result after {self.settings.seconds_limit:g} s")

    def _lost(self, worker: _Worker[A], reason: str) -> Scored | None:
        """Replace a worker and score its architecture once more; the second loss is a failure."""
        task = worker.task
        self.workers[self.workers.index(worker)] = self._new_worker()
        if task is None:
            self.lost_while_starting += 1
            if self.lost_while_starting == LOST_WHILE_STARTING:
                found = f"{LOST_WHILE_STARTING} in a row that did not start"
                raise UserError("workers", "workers that start", found, reason)
            return None
        if task.retried is not None:
            seconds = time.monotonic() - worker.since
            return Scored(
                task.number, None, f"lost twice: {reason}", seconds, worker.name, task.retried
            )
        log.warning("trial %d is scored again: %s", task.number, reason)
        self.queue.appendleft(replace(task, retried=reason))
        return None


def _reason(error: Exception) -> str:
    """Return one line of Ray's message."""
    exit_type = re.search(r"exit type: (\w+)", str(error))
    return exit_type[1] if exit_type else (str(error) or type(error).__name__).splitlines()[0]
