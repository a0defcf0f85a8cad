"""How heatmaps pass from one frame of a clip to the next, whatever computes them.

B batch, K keypoints, H W height and width of the input, h w those of the heatmaps, T follow-up
frames of a clip, F = T + 1 its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from torch import Tensor
from torch.nn import functional as F

# Heatmaps of a frame by its distance from the key frame, its images (B, 3, H, W) and the warped
# heatmaps of the frame before (B, K, h, w), None in a key frame.
RunFrame: TypeAlias = Callable[[int, Tensor, "Tensor | None"], Tensor]
# The heatmaps that a frame is given, from those of the frame before; the frame by its distance.
Feed: TypeAlias = Callable[[int, Tensor], Tensor]


class Frame(NamedTuple):
    """One frame, the input of a network.

    Attributes:
        distance: Frames since the key frame; 0 for a key frame.
        images_B3HW: Normalised images (B, 3, H, W).
        warps_B23: As in `warp_heatmaps`; None for a key frame.
        heatmap_hw: Height and width of its heatmaps; None is those of the frame before.
    """

    distance: int
    images_B3HW: Tensor
    warps_B23: Tensor | None = None
    heatmap_hw: tuple[int, int] | None = None


def frames_of(images_BF3HW: Tensor, warps_BT23: Tensor) -> Iterator[Frame]:
    """Yield the frames of clips, the key frame first."""
    yield Frame(0, images_BF3HW[:, 0])
    for distance in range(1, images_BF3HW.shape[1]):
        yield Frame(distance, images_BF3HW[:, distance], warps_BT23[:, distance - 1])


def detached(distance: int, heatmaps_BKHW: Tensor) -> Tensor:
    """Return the heatmaps unchanged; no gradient flows into the frame before."""
    return heatmaps_BKHW.detach()


def propagate(
    run: RunFrame,
    frames: Iterable[Frame],
    heatmaps_BKHW: Tensor | None = None,
    feed: Feed = detached,
) -> Iterator[Tensor]:
    """Yield the heatmaps of one frame after another; each network gets those of the frame before.

    Training, calibration, scoring, the online loop and exported networks all use it. An image is a
    clip of one key frame.

    Args:
        run: Computes the heatmaps of a frame.
        frames: Read one by one, after the heatmaps of the frame before are yielded: a frame may
            depend on them.
        heatmaps_BKHW: Those of the frame before the first one; None if that is a key frame.
        feed: Turns the heatmaps of the frame before into those that are warped to the frame's crop.
    """
    for frame in frames:
        before = None
        if frame.distance > 0:
            assert heatmaps_BKHW is not None and frame.warps_B23 is not None
            fed_BKHW = feed(frame.distance, heatmaps_BKHW)
            before = warp_heatmaps(fed_BKHW, frame.warps_B23, frame.heatmap_hw)
        heatmaps_BKHW = run(frame.distance, frame.images_B3HW, before)
        yield heatmaps_BKHW


def warp_heatmaps(
    heatmaps_BKHW: Tensor, warps_B23: Tensor, heatmap_hw: tuple[int, int] | None = None
) -> Tensor:
    """Warp heatmaps of the frame before to the crop of this frame; zero outside.

    Args:
        heatmaps_BKHW: Heatmaps of the frame before.
        warps_B23: Affine maps from normalised coordinates of this frame's heatmaps to those of the
            frame before. -1 and 1 are the edges of the outer pixels.
        heatmap_hw: Height and width of this frame's heatmaps; None is those of the frame before.
    """
    shape = [*heatmaps_BKHW.shape[:2], *(heatmap_hw or heatmaps_BKHW.shape[2:])]
    grid = F.affine_grid(warps_B23.to(heatmaps_BKHW.dtype), shape, align_corners=False)
    return F.grid_sample(heatmaps_BKHW, grid, align_corners=False)
