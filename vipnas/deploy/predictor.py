"""Find poses in images, videos, cameras and streams, frame by frame.

N persons, K keypoints.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Protocol

from numpy.typing import ArrayLike

from vipnas.arch.skeleton import Skeleton
from vipnas.data.crops.geometry import FloatArray
from vipnas.deploy.clip_runner import FoundPoses, Runner
from vipnas.deploy.detected_boxes import DetectedBoxes, Detector, whole_image
from vipnas.deploy.following import FollowRule, follow
from vipnas.deploy.result import UINT8, PoseResult
from vipnas.deploy.smoothing import OneEuroFilter
from vipnas.deploy.sources import Source, SourceFrame, open_source
from vipnas.deploy.stopwatch import Stopwatch
from vipnas.deploy.writer import FramePoses, Writer
from vipnas.evaluation.key_frames import ClipMemory
from vipnas.evaluation.online import is_pose
from vipnas.evaluation.tracker import Tracker

log = logging.getLogger(__name__)

# Sources whose pictures are independent of each other.
STILL_KINDS = {"image", "folder", "glob"}
DETECT_EVERY = 10


class PoseFinder(Protocol):
    """A model that finds poses: `PoseModel`, `ForeignPoseModel`."""

    @property
    def skeleton(self) -> Skeleton: ...

    def predict(self, image: UINT8, boxes_xyxy: ArrayLike | None = None) -> PoseResult:
        """Find one pose in each box (N, 4) of an RGB image; None is the whole image."""
        ...

    def runner(self) -> Runner:
        """Return what finds the poses of a video's frames."""
        ...


@dataclass(frozen=True)
class TrackSettings:
    """How persons are followed through a video.

    Attributes:
        detect_every: Frames from one run of the detector to the next.
        smooth: Smooth the joints of each track by a One-Euro filter.
        min_birth_score: See `FollowRule`.
    """

    detect_every: int = DETECT_EVERY
    smooth: bool = False
    min_birth_score: float = FollowRule.min_birth_score


@dataclass(frozen=True)
class Drawing:
    """What is drawn into pictures.

    Attributes:
        min_score: Joints that score less are left out.
        boxes: The boxes where poses were looked for.
        ids: The ids of tracks.
    """

    min_score: float = 0.2
    boxes: bool = False
    ids: bool = True


@dataclass(frozen=True)
class Summary:
    """Summary of a run over a source.

    Attributes:
        num_frames: Frames in which poses were looked for.
        num_persons: Poses of at least four joints (`is_pose`), in all frames together.
        num_tracks: Track ids that these have; None for images.
        ms_by_part: Mean milliseconds a frame of decoding, detector, network, drawing and writing.
        is_interrupted: Whether Ctrl-C or a signal ended it.
    """

    num_frames: int
    num_persons: int
    num_tracks: int | None
    ms_by_part: dict[str, float]
    is_interrupted: bool = False

    def __str__(self) -> str:
        tracks = "" if self.num_tracks is None else f" in {self.num_tracks} tracks"
        spent = ", ".join(f"{part} {ms:.1f}" for part, ms in self.ms_by_part.items())
        return f"{self.num_frames} frames, {self.num_persons} persons{tracks}; ms a frame: {spent}"


def track(
    model: PoseFinder,
    source: str | Path,
    detector: Detector | None = None,
    settings: TrackSettings | None = None,
) -> Iterator[PoseResult]:
    """Yield the poses in each frame of a source; see `PoseModel.track`."""
    with open_source(source) as frames:
        for _, poses in find_poses(model, frames, detector, settings):
            yield poses


def find_poses(
    model: PoseFinder,
    source: Source,
    detector: Detector | None = None,
    settings: TrackSettings | None = None,
    stopwatch: Stopwatch | None = None,
) -> Iterator[tuple[SourceFrame, PoseResult]]:
    """Yield each frame with its poses, before the next one is decoded.

    Args:
        model: Finds the poses. All persons of a frame run together.
        source: Its images are independent of each other; the frames of all else have tracks.
        detector: Finds persons. None takes an image for one person. In a video, None takes the
            whole frame while nobody is followed.
        settings: Of videos; defaults to `TrackSettings()`.
        stopwatch: Measures the time of decoding, detector and network.

    Raises:
        UserError: A frame cannot be read, or the detector's boxes cannot be used.
        FloatingPointError: The network's output is not finite.
    """
    stopwatch = stopwatch or Stopwatch()
    if source.kind in STILL_KINDS:
        return _in_images(model, source, detector, stopwatch)
    return _in_video(model, source, detector, settings or TrackSettings(), stopwatch)


def write_poses(
    model: PoseFinder,
    source: Source,
    writers: Sequence[Writer],
    detector: Detector | None = None,
    settings: TrackSettings | None = None,
    drawing: Drawing | None = None,
) -> Summary:
    """Find the poses of a source, and write them frame by frame.

    The writers are closed at the end, also by an error or Ctrl-C: frames done so far are kept.

    Args:
        model: Finds the poses.
        source: The frames.
        writers: Each writes every frame.
        detector: See `find_poses`.
        settings: See `find_poses`.
        drawing: Defaults to `Drawing()`.
    """
    stopwatch, ids, drawing = Stopwatch(), set[int](), drawing or Drawing()
    num_frames, num_persons, is_interrupted = 0, 0, False
    with ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
        draws = any(writer.draws for writer in writers)
        try:
            for frame, poses in find_poses(model, source, detector, settings, stopwatch):
                with stopwatch.on("drawing"):
                    shown = drawing.min_score, drawing.boxes, True, drawing.ids
                    picture = poses.plot(*shown, frame.scratch_bgr) if draws else None
                found = _written(frame, poses, picture)
                with stopwatch.on("writing"):
                    for writer in writers:
                        writer.write(found)
                are_found = [is_pose(scores_K) for scores_K in poses.scores]
                num_frames, num_persons = num_frames + 1, num_persons + sum(are_found)
                if poses.ids is not None:
                    ids.update(compress(poses.ids.tolist(), are_found))
        except KeyboardInterrupt:
            is_interrupted = True
    if num_frames and not num_persons:
        hint = "try --detector" if detector is None else "try another detector or model"
        log.warning(
            "%s: expected persons, found none in %d frames (%s)", source.place, num_frames, hint
        )
    parts = ["decoding", "detector", "network", "drawing", "writing"]
    ms_by_part = {part: 1000 * stopwatch.seconds[part] / max(1, num_frames) for part in parts}
    num_tracks = None if source.kind in STILL_KINDS else len(ids)
    return Summary(num_frames, num_persons, num_tracks, ms_by_part, is_interrupted)


def _written(frame: SourceFrame, poses: PoseResult, picture: UINT8 | None) -> FramePoses:
    return FramePoses(
        frame,
        poses.keypoints,
        poses.scores,
        poses.boxes_xyxy,
        poses.ids,
        picture,
        poses.box_scores,
    )


def _in_images(
    model: PoseFinder, source: Source, detector: Detector | None, stopwatch: Stopwatch
) -> Iterator[tuple[SourceFrame, PoseResult]]:
    for frame in stopwatch.on_each("decoding", source):
        with stopwatch.on("detector"):
            boxes = (detector or whole_image)(frame.image, frame.name, frame.index)
        with stopwatch.on("network"):
            poses = model.predict(frame.image, boxes.boxes_xyxy)
        poses = replace(poses, index=frame.index, time_s=frame.time_s, box_scores=boxes.scores)
        yield frame, poses


def _in_video(
    model: PoseFinder,
    source: Source,
    detector: Detector | None,
    settings: TrackSettings,
    stopwatch: Stopwatch,
) -> Iterator[tuple[SourceFrame, PoseResult]]:
    shown = _Shown(stopwatch.on_each("decoding", source))
    runner = model.runner()

    def detect(image: UINT8) -> DetectedBoxes:
        assert detector is not None
        with stopwatch.on("detector"):
            return detector(image, shown.frame.name, shown.frame.index)

    def run(
        image: UINT8, boxes_xyxy: FloatArray, memories: Sequence[ClipMemory | None]
    ) -> FoundPoses:
        with stopwatch.on("network"):
            return runner(image, boxes_xyxy, memories)

    # One person who fills the first frame need not fill those that follow.
    is_given = detector is not None and detector is not whole_image
    smooth = OneEuroFilter() if settings.smooth else None
    rule = FollowRule(settings.detect_every, min_birth_score=settings.min_birth_score)
    tracker = Tracker(model.skeleton)
    for found in follow(shown, run, tracker, detect if is_given else None, rule):
        frame, keypoints = shown.frame, found.keypoints
        if smooth is not None:
            keypoints = smooth(frame.time_s, found.ids, keypoints, found.boxes_xyxy)
        yield (
            frame,
            PoseResult(
                keypoints,
                found.scores,
                found.boxes_xyxy,
                frame.image,
                model.skeleton,
                found.ids,
                frame.index,
                frame.time_s,
                found.box_scores,
            ),
        )


class _Shown:
    """The images of frames, one at a time; `frame` is the one that was given last."""

    frame: SourceFrame

    def __init__(self, frames: Iterable[SourceFrame]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[UINT8]:
        for frame in self._frames:
            self.frame = frame
            yield frame.image
