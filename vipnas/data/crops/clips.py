"""Clips: crops of one person in consecutive frames of a video, and the warps between them.

B batch, F frames of a clip (the key frame and T follow-up frames), K keypoints, H W height and
width of the network's input. Images are as in `crops`, with a dimension of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vipnas.config.data import JITTER_LIMIT, BoxFit, ClipAugmentation, Follow
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.augmentation import augmented_matrix, crop_draws, decode_reduction
from vipnas.data.crops.crops import Crops, fixed_crops, keypoints_in_crops
from vipnas.data.crops.geometry import PUBLISHED_FIT, FloatArray, heatmap_warp, invert
from vipnas.data.crops.images import read_reduced
from vipnas.data.crops.loader import Key
from vipnas.data.crops.pictures import Picture, crop_into
from vipnas.data.crops.skipped import log_skipped
from vipnas.data.formats.posetrack import PoseTrackData, TrackedPerson
from vipnas.data.formats.skeletons import Skeleton


@dataclass(frozen=True)
class Clip:
    """One labelled person in consecutive frames, the key frame first."""

    people: tuple[TrackedPerson, ...]

    def boxed_by(self, frame: int, follow: Follow) -> TrackedPerson:
        """Return the person whose box the crop of a frame is made from."""
        source = {"key": 0, "before": max(frame - 1, 0), "own": frame}[follow]
        return self.people[source]


def clips_of(data: PoseTrackData, num_follow_up: int, stride: int = 1) -> tuple[Clip, ...]:
    """Return all clips of `num_follow_up` + 1 frames, video by video and track by track.

    Clips come from unbroken pieces of a track: the person has a labelled joint in every frame.

    Args:
        data: The videos.
        num_follow_up: Number of frames after the key frame.
        stride: Frames between the starts of two clips.

    Raises:
        ValueError: There is no clip, or an argument is out of range.
    """
    if num_follow_up < 0 or stride < 1:
        raise ValueError(
            "clips: expected num_follow_up of 0 or more and stride of 1 or more, got "
            f"{num_follow_up} and {stride}"
        )
    length = num_follow_up + 1
    clips = tuple(
        Clip(tuple(piece[first : first + length]))
        for piece in _pieces(data)
        for first in range(0, len(piece) - num_follow_up, stride)
    )
    if not clips:
        raise ValueError(
            f"clips: expected a person labelled in {length} consecutive frames, got none in "
            f"{len(data.videos)} videos (use fewer follow-up frames)"
        )
    return clips


def spread_clips(data: PoseTrackData, num_follow_up: int, at_most: int) -> tuple[Clip, ...]:
    """Return at most so many clips that do not overlap, evenly spread over the videos."""
    clips = clips_of(data, num_follow_up, stride=num_follow_up + 1)
    kept = min(len(clips), at_most)
    return tuple(clips[len(clips) * place // kept] for place in range(kept))


def _pieces(data: PoseTrackData) -> list[list[TrackedPerson]]:
    """Return the unbroken pieces of all tracks."""
    usable = {person.annotation_id for person in data.persons}
    pieces: list[list[TrackedPerson]] = []
    for video in data.videos:
        latest: dict[int, tuple[int, list[TrackedPerson]]] = {}  # frame number, piece, by track
        for frame in video.frames:
            for person in frame.people:
                if person.annotation_id not in usable:
                    continue
                number, piece = latest.get(person.track_id, (-2, []))
                if number != frame.number - 1:
                    piece = []
                    pieces.append(piece)
                piece.append(person)
                latest[person.track_id] = frame.number, piece
    return pieces


class ClipBatch(NamedTuple):
    """A batch of clips.

    Attributes:
        images: (B, F, 3, H, W), uint8.
        keypoints: (B, F, K, 3), float32, in input pixels of each frame's own crop.
        warps: (B, T, 2, 3), float32. `warps[:, t - 1]` warps heatmaps of frame t - 1 to frame t
            (see `heatmap_warp`).
    """

    images: Tensor
    keypoints: Tensor
    warps: Tensor


@dataclass(frozen=True)
class TrainingClips(Dataset[ClipBatch]):
    """Augmented clips by key (epoch, index of the clip). A key always gives the same clip.

    Attributes:
        clips: Clips of equal length.
        skeleton: The joints of the persons.
        codec: Gives the sizes of inputs and heatmaps.
        augmentation: How clips vary.
        seed: Seed of the augmentation.
        skip_bad_images: If an image cannot be read any more, log its clip and use the next one. By
            default it is a ValueError.
        fit: How the region of a crop is made from the box.
    """

    clips: Sequence[Clip]
    skeleton: Skeleton
    codec: HeatmapCodec
    augmentation: ClipAugmentation
    seed: int
    skip_bad_images: bool = False
    fit: BoxFit = PUBLISHED_FIT

    def __post_init__(self) -> None:
        if len({len(clip.people) for clip in self.clips}) != 1:
            lengths = sorted({len(clip.people) for clip in self.clips})
            raise ValueError(f"training clips: expected clips of one length, got lengths {lengths}")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> ClipBatch:
        """Return one clip, without a batch dimension."""
        return ClipBatch(*(part[0] for part in self.__getitems__([key])))

    def __getitems__(self, keys: Sequence[Key]) -> ClipBatch:
        """Return a batch at once, which torch's loader prefers."""
        num_frames = len(self.clips[0].people)
        images = np.empty((len(keys), num_frames, *self.codec.input_hw, 3), np.uint8)
        matrices = np.empty((len(keys), num_frames, 2, 3))
        keypoints = np.empty((len(keys), num_frames, self.skeleton.num_joints, 3), np.float32)
        mirrored = np.empty((len(keys), num_frames), bool)
        for row, key in enumerate(keys):
            clip, pictures = self._readable(key[1])
            matrices[row], mirrored[row] = self._matrices(clip, key)
            for frame, (person, picture) in enumerate(zip(clip.people, pictures, strict=True)):
                crop_into(images[row, frame], picture, matrices[row, frame])
                keypoints[row, frame] = person.keypoints_K3
        moved = keypoints_in_crops(
            keypoints.reshape(-1, self.skeleton.num_joints, 3),
            self.skeleton,
            matrices.reshape(-1, 2, 3),
            mirrored.reshape(-1),
        )
        return ClipBatch(
            torch.from_numpy(images).permute(0, 1, 4, 2, 3),
            torch.from_numpy(moved.reshape(keypoints.shape)),
            _warps(matrices, self.codec),
        )

    def _matrices(self, clip: Clip, key: Key) -> tuple[FloatArray, bool]:
        """Return the matrices (F, 2, 3), input from image, and whether the clip is mirrored."""
        draws = crop_draws(self.seed, *key)
        settings, mirrored = self.augmentation, False
        jitter = np.random.default_rng((self.seed, *key)).normal(size=(len(clip.people), 3))
        jitter = np.clip(jitter, -JITTER_LIMIT, JITTER_LIMIT)
        matrices = []
        for frame, (right, down, larger) in enumerate(jitter.tolist()):
            matrix, mirrored = augmented_matrix(
                clip.boxed_by(frame, settings.follow),
                self.skeleton,
                self.codec.span_hw,
                settings.crop,
                draws,
                self.fit,
            )
            shift = (settings.shift * right, settings.shift * down)
            matrices.append(_nudged(matrix, shift, 1 + settings.scale * larger, self.codec.span_hw))
        return np.array(matrices), mirrored

    def _readable(self, index: int) -> tuple[Clip, list[Picture]]:
        for offset in range(len(self.clips)):
            clip = self.clips[(index + offset) % len(self.clips)]
            try:
                return clip, [self._picture(clip, frame) for frame in range(len(clip.people))]
            except ValueError as error:
                if not self.skip_bad_images:
                    raise
                number = clip.people[0].annotation_id
                log_skipped(str(error), "clip of %d left out: %s", number, error)
        raise ValueError(
            f"training clips: expected one that can be read, got none of {len(self.clips)}"
        )

    def _picture(self, clip: Clip, frame: int) -> Picture:
        person = clip.people[frame]
        shown = clip.boxed_by(frame, self.augmentation.follow)
        reduction = decode_reduction(
            shown, self.skeleton, self.codec.span_hw, self.augmentation.crop, self.fit
        )
        image = read_reduced(person.image_path, reduction, person.image_hw, person.ignore_exif)
        return Picture(*image)


def _nudged(
    matrix_23: FloatArray, shift: tuple[float, float], factor: float, span_hw: tuple[int, int]
) -> FloatArray:
    """Move a crop by fractions of its sides, and scale it about its centre."""
    sides = np.array((span_hw[1], span_hw[0]))
    nudged = factor * matrix_23
    nudged[:, 2] += (1 - factor) * sides / 2 + sides * shift
    return nudged


def _warps(matrices_BF23: FloatArray, codec: HeatmapCodec) -> Tensor:
    before, now = matrices_BF23[:, :-1], matrices_BF23[:, 1:]
    return torch.from_numpy(heatmap_warp(before, now, codec.stride_xy, codec.heatmap_hw)).float()


@dataclass(frozen=True)
class FixedClips:
    """Clips for evaluation, cropped once.

    Attributes:
        clips: The clips.
        frames: Crops of all clips, by frame. `frames[0]` are the key frames.
        warps_NT23: Warps as in `ClipBatch`.
        codec: For the size of the crops.
    """

    clips: tuple[Clip, ...]
    frames: tuple[Crops, ...]
    warps_NT23: Tensor
    codec: HeatmapCodec

    def __len__(self) -> int:
        return len(self.clips)

    def of(self, rows: slice) -> FixedClips:
        """Return some of the clips."""
        frames = tuple(crops.of(rows) for crops in self.frames)
        warps_NT23 = self.warps_NT23[rows]
        return replace(self, clips=self.clips[rows], frames=frames, warps_NT23=warps_NT23)


def fixed_clips(
    clips: Sequence[Clip],
    skeleton: Skeleton,
    codec: HeatmapCodec,
    follow: Follow = "own",
    fit: BoxFit = PUBLISHED_FIT,
) -> FixedClips:
    """Crop every clip once, without augmentation.

    Args:
        clips: Clips of equal length.
        skeleton: The joints of the persons.
        codec: Gives the sizes of inputs and heatmaps.
        follow: Whose box a frame is cropped by. The persons of the crops have this box.
        fit: How the region of a crop is made from the box.

    Raises:
        ValueError: An image cannot be read. The message names it.
    """
    frames = []
    for frame in range(len(clips[0].people)):
        persons = [
            replace(clip.people[frame], box_xywh=clip.boxed_by(frame, follow).box_xywh)
            for clip in clips
        ]
        crops = fixed_crops(persons, skeleton, codec.input_hw, span_hw=codec.span_hw, fit=fit)
        frames.append(crops)
    matrices_NF23: NDArray[np.float64] = np.stack(
        [invert(crops.image_from_input_B23) for crops in frames], axis=1
    )
    return FixedClips(tuple(clips), tuple(frames), _warps(matrices_NF23, codec), codec)
