"""Limits of numbers in settings and arguments, beyond which runs crash in the middle."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

MAX_THREADS = 1024  # with very many, runtimes crash
Threads: TypeAlias = Annotated[int, Field(ge=1, le=MAX_THREADS)]
# Of a schedule: the optimizer, or the memory of any machine.
AT_MOST = {"batch_size": 65_536, "learning_rate": 1000, "weight_decay": 1000}
