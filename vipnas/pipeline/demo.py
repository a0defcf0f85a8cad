"""The networks of both quickstarts on one synthetic video, beside its labels.

N persons in a frame, J joints that are labelled, K joints of a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.arch.skeleton import Skeleton
from vipnas.data.crops.boxes import xyxy_from_xywh
from vipnas.data.crops.decoding import decode_jpeg
from vipnas.data.crops.geometry import FloatArray
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.deploy.loading import load
from vipnas.deploy.model import PoseModel
from vipnas.deploy.source import SourceFrame
from vipnas.deploy.writer import FramePoses
from vipnas.deploy.writers import open_writer
from vipnas.errors import UserError
from vipnas.evaluation.key_frames import ClipMemory
from vipnas.evaluation.oks import own_similarities
from vipnas.models.counting import count_cost, mean_cost
from vipnas.pipeline.run_folder import RunFolder
from vipnas.synthetic.camera import FRAMES_PER_SECOND
from vipnas.synthetic.clip import frames_of, random_video
from vipnas.viz.pose_style import MIDDLE
from vipnas.viz.poses import draw_poses, draw_text

UINT8 = NDArray[np.uint8]

NETWORK = "network.safetensors"
# People as in the training videos of the quickstart, on a larger picture.
IMAGE_HW, PEOPLE, DIFFICULTY = (320, 320), (2, 2), 0.05
TRUTH = read_skeleton("posetrack_18")
PANEL_PX, CAPTION_PX, GAP_PX, TEXT_PX = 480, 72, 8, 18
GROUND, QUIET = (22, 32, 43), (170, 182, 194)


class LabelledFrame(NamedTuple):
    """A frame, its persons and their labels.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        joints: (N, J, 3), x, y and visibility.
        boxes_xyxy: (N, 4).
        areas: (N,), in square pixels.
        ids: (N,).
    """

    image: UINT8
    joints: FloatArray
    boxes_xyxy: FloatArray
    areas: FloatArray
    ids: list[int]


@dataclass
class ModelPanel:
    """A model on the frames of the video, one after another, in the labelled boxes.

    Attributes:
        title: What it is, for the caption.
        model: The model.
        labelled: Names of the labelled joints.
        similarities: The OKS of every pose so far.
    """

    title: str
    model: PoseModel
    labelled: Sequence[str]
    similarities: list[float] = field(default_factory=list)
    _memories: dict[int, ClipMemory | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._run = self.model.runner()
        self._rows = [self.labelled.index(name) for name in self.model.skeleton.joints]

    @property
    def megamacs(self) -> float:
        """Millions of MACs of a frame, on average."""
        header = self.model.header
        cost = count_cost(header.key_frame) if header.clip is None else mean_cost(header.clip)
        return cost.macs / 1e6

    @property
    def mean_oks(self) -> float:
        """The mean OKS of the poses so far."""
        return float(np.mean(self.similarities)) if self.similarities else 0.0

    def __str__(self) -> str:
        return f"{self.title}: {self.megamacs:.1f} MMACs a frame, mean OKS {self.mean_oks:.2f}"

    def next(self, frame: LabelledFrame) -> UINT8:
        """Return the panel of the next frame."""
        memories = [self._memories.get(number) for number in frame.ids]
        found = self._run(frame.image, frame.boxes_xyxy, memories)
        distances = set(found.distances.tolist())
        self._memories = dict(zip(frame.ids, found.memories, strict=True))
        skeleton = self.model.skeleton
        truth_NK3 = frame.joints[:, self._rows]
        oks_N = own_similarities(found.keypoints, truth_NK3, frame.areas, skeleton.sigmas)
        self.similarities += oks_N[~np.isnan(oks_N)].tolist()
        detail = f"{self.megamacs:.1f} MMACs a frame, OKS {self.mean_oks:.2f}"
        if self.model.header.clip is not None and len(distances) == 1:
            (distance,) = distances
            detail += ", key frame" if distance == 0 else f", key frame + {distance}"
        return panel(self.title, detail, frame.image, found.keypoints, found.scores, skeleton)


def demo(
    image_run: Path, video_run: Path, output: Path, num_frames: int, seed: int
) -> list[ModelPanel]:
    """Write a video: the labels, every frame by itself, and the networks of a clip, side by side.

    Args:
        image_run: Folder of a finished run of the image level.
        video_run: Folder of a finished run of both levels.
        output: The video, `.mp4` or `.webm`.
        num_frames: Number of frames, at 25 per second.
        seed: Seed of the video.

    Returns:
        Both levels, with their OKS on the video.

    Raises:
        UserError: A run is not finished, or the video cannot be written.
    """
    files = {
        "quickstart": RunFolder(image_run).retrain / NETWORK,
        "quickstart_video": RunFolder(video_run).clips.retrain / NETWORK,
    }
    for name, path in files.items():
        if not path.is_file():
            hint = f"`vipnas run {name}` makes one"
            raise UserError(str(path), "the network of a finished run", "no such file", hint)
    if output.suffix.lower() not in (".mp4", ".webm"):
        raise UserError(f"--output {output}", ".mp4 or .webm", output.suffix or "no suffix")
    titles = ("S: every frame by itself", "T: residual heatmaps")
    models = [load(path, flip_test=False) for path in files.values()]
    names = [
        joint for skeleton in (TRUTH, *(m.skeleton for m in models)) for joint in skeleton.joints
    ]
    labelled = list(dict.fromkeys(names))
    levels = [
        ModelPanel(title, model, labelled) for title, model in zip(titles, models, strict=True)
    ]
    with open_writer(output, TRUTH, fps=FRAMES_PER_SECOND) as writer:
        for number, frame in enumerate(labelled_frames(num_frames, seed, labelled)):
            panels = [truth_panel(frame), *(level.next(frame) for level in levels)]
            picture_bgr = np.ascontiguousarray(side_by_side(panels)[..., ::-1])
            source = SourceFrame(number, number / FRAMES_PER_SECOND, frame.image, "", "")
            joints = frame.joints
            poses = joints[..., :2], joints[..., 2], frame.boxes_xyxy, None
            writer.write(FramePoses(source, *poses, picture_bgr))
    return levels


def labelled_frames(num_frames: int, seed: int, joints: Sequence[str]) -> Iterator[LabelledFrame]:
    """Yield the frames of a synthetic video, with the joints of these names."""
    rng = np.random.default_rng(seed)
    video = random_video(rng, num_frames, IMAGE_HW, PEOPLE, DIFFICULTY, 1.0)
    for jpeg, people in frames_of(video, rng, joints):
        people = [person for person in people if min(person["bbox"][2:]) > 0]
        boxes = np.array([person["bbox"] for person in people], np.float64).reshape(-1, 4)
        yield LabelledFrame(
            decode_jpeg(Path("frame"), jpeg, 1, ignore_exif=True),
            np.array([person["keypoints"] for person in people]).reshape(-1, len(joints), 3),
            xyxy_from_xywh(boxes),
            np.array([person["area"] for person in people], np.float64),
            [person["track_id"] for person in people],
        )


def truth_panel(frame: LabelledFrame) -> UINT8:
    """Return the panel of the labels; hidden joints are rings."""
    joints = frame.joints[:, : TRUTH.num_joints]
    detail = f"{IMAGE_HW[1]} x {IMAGE_HW[0]} pixels, labelled boxes"
    return panel("Labels", detail, frame.image, joints[..., :2], joints[..., 2] / 2, TRUTH)


def panel(
    title: str,
    detail: str,
    image: UINT8,
    keypoints_NK2: FloatArray,
    scores_NK: NDArray[np.floating],
    skeleton: Skeleton,
) -> UINT8:
    """Return a picture with poses, enlarged, below a caption of two lines."""
    scale = PANEL_PX / image.shape[1]
    enlarged = cv2.resize(image, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_CUBIC)
    # Whole numbers are centres of pixels.
    places = (keypoints_NK2 + 0.5) * scale - 0.5
    poses = draw_poses(np.asarray(enlarged, np.uint8), places, scores_NK, skeleton)
    caption = np.full((CAPTION_PX, PANEL_PX, 3), GROUND, np.uint8)
    draw_text(caption, title, (6, 30), TEXT_PX, MIDDLE)
    draw_text(caption, detail, (6, 60), TEXT_PX * 0.75, QUIET)
    return np.vstack((caption, poses))


def side_by_side(panels: Sequence[UINT8]) -> UINT8:
    """Return one picture of all panels, with gaps between them."""
    gap = np.full((panels[0].shape[0], GAP_PX, 3), GROUND, np.uint8)
    parts = [part for one in panels for part in (gap, one)]
    return np.hstack([*parts[1:]])
