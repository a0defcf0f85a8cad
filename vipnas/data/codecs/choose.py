"""The codec of an architecture: its head and the codec's name must fit."""

from __future__ import annotations

from vipnas.arch.image import Arch
from vipnas.data.codecs.heatmap import CODECS, HeatmapCodec, make_codec
from vipnas.data.codecs.simcc import SCORE_SIGMA_PX, SimccCodec
from vipnas.errors import UserError

SIMCC = "simcc"


def codec_of(arch: Arch, name: str, sigma_px: float, place: str = "codec") -> HeatmapCodec:
    """Return the codec of an architecture's output.

    Args:
        arch: The architecture.
        name: `simcc` with a SimCC head, else one of `CODECS`.
        sigma_px: As of the codec.
        place: Where the name is from, for errors.

    Raises:
        UserError: The codec is of another head, or sigma is too large for it.
    """
    if (name == SIMCC) != (arch.simcc is not None):
        expected = f"one of {', '.join(CODECS)}" if arch.simcc is None else SIMCC
        head = "gives heatmaps" if arch.simcc is None else "has a SimCC head"
        raise UserError(place, expected, name, f"the architecture {head}")
    if arch.simcc is None:
        return make_codec(name, arch.input_hw, arch.heatmap_hw, sigma_px)
    if not sigma_px < SCORE_SIGMA_PX:
        expected = f"below {SCORE_SIGMA_PX:g} with the codec simcc, in pixels of the input"
        raise UserError("sigma_px", expected, f"{sigma_px:g}")
    return SimccCodec(arch.input_hw, arch.heatmap_hw, sigma_px)
