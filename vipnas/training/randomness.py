"""The random state of the whole process.

Nothing here draws from it: what a step trains is a function of its number. A user's own layer or
backward pass may (dropout does), and must then go on after a kill as if nothing had happened.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

_MT_WORDS = 624


def seed_process(seed: int) -> None:
    """The same start for Python's, numpy's and torch's randomness, on every device; each has a
    stream of its own."""
    random.setstate(random.Random(seed).getstate())
    # Both have the same generator, so that numpy can have a state that Python makes.
    words = random.Random(f"{seed}-numpy").getstate()[1][:_MT_WORDS]
    np.random.set_state(("MT19937", np.array(words, np.uint32), _MT_WORDS, 0, 0.0))
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """All of it as tensors and numbers, for a checkpoint."""
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
    """A state as `random_state` gives it; raises ValueError for anything that cannot be restored.

    Tried and taken back, since each library has its own idea of what fits.
    """
    before = random_state()
    try:
        restore_random_state(state)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{where}: random: not a state of randomness: {error}") from None
    finally:
        restore_random_state(before)
    found: dict[str, Any] = state
    return found


def restore_random_state(state: dict[str, Any]) -> None:
    """Go on from `random_state`; that of GPUs only where there are as many of them."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    numpy = state["numpy"]
    key = numpy["key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy["pos"], *numpy["gauss"]))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
