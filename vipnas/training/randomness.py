"""The random state of the whole process.

vipnas does not use it: a step is a function of its number. A user's own layer or backward pass may
use it, as dropout does, and must then resume exactly after a kill.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from vipnas.errors import UserError

_MT_WORDS = 624


def seed_process(seed: int) -> None:
    """Seed Python, numpy and torch on every device; each has its own stream."""
    random.setstate(random.Random(seed).getstate())
    # Both use the same generator, so that a state of Python fits numpy.
    words = random.Random(f"{seed}-numpy").getstate()[1][:_MT_WORDS]
    np.random.set_state(("MT19937", np.array(words, np.uint32), _MT_WORDS, 0, 0.0))
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the random state as tensors and numbers, for a checkpoint."""
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    return {
        "python": [version, torch.tensor(words), gauss],
        "numpy": {
            "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "pos": int(numpy["state"]["pos"]),
            "gauss": [int(numpy["has_gauss"]), float(numpy["gauss"])],
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def checked_random_state(state: Any, where: str) -> dict[str, Any]:
    """Return a state of `random_state`; raises UserError if it cannot be restored.

    The state is restored and undone again, because each library has its own checks.
    """
    before = random_state()
    try:
        restore_random_state(state)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise UserError(f"{where}: random", "a random state", str(error)) from None
    finally:
        restore_random_state(before)
    found: dict[str, Any] = state
    return found


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore a state of `random_state`; that of GPUs only if their number is the same."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    numpy = state["numpy"]
    key = numpy["key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy["pos"], *numpy["gauss"]))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
