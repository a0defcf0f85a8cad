"""A trained network with all that is needed to run it.

N boxes, K keypoints, H W height and width of the network's input, h w those of its heatmaps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from vipnas.arch.image import Arch
from vipnas.arch.skeleton import Skeleton
from vipnas.config.data import BoxFit
from vipnas.data.codecs.choose import codec_of
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import normalise, normalise_pixels
from vipnas.data.crops.geometry import FloatArray, from_upright
from vipnas.data.crops.pictures import box_crops
from vipnas.deploy.clip_runner import ClipRunner, ImageRunner, Runner
from vipnas.deploy.detectors import Detector
from vipnas.deploy.predictor import DETECT_EVERY, TrackSettings, track
from vipnas.deploy.result import UINT8, PoseResult, checked_boxes, checked_image
from vipnas.errors import UserError
from vipnas.evaluation.evaluator import flip_tested, run_contiguous
from vipnas.evaluation.key_frames import KeyFrameSchedule
from vipnas.models.clipnet import ClipNetworks
from vipnas.models.header import ModelHeader
from vipnas.models.posenet import PoseNet
from vipnas.runtimes.exported import (
    HEATMAPS,
    KEYPOINTS,
    NORMALISED,
    PIXELS,
    ExportedNetwork,
)


@dataclass(frozen=True)
class PoseModel:
    """A network and its header.

    `network` takes normalised images (N, 3, H, W) to heatmaps (N, K, h, w). An exported network may
    take uint8 images (N, H, W, 3), and return joints (N, K, 3). The networks of a clip run on
    videos; the key frame's network runs on images. With `flip_test`, heatmaps are the mean over the
    crop and its mirror image: slower, and slightly more accurate.
    """

    network: nn.Module
    header: ModelHeader
    path: Path
    flip_test: bool = True
    batch_size: int = 64

    @property
    def arch(self) -> Arch:
        return self.header.key_frame

    @property
    def skeleton(self) -> Skeleton:
        return self.header.skeleton

    @cached_property
    def codec(self) -> HeatmapCodec:
        place = f"{self.path}: codec"
        return codec_of(self.arch, self.header.codec, self.header.sigma_px, place)

    @cached_property
    def _fit(self) -> BoxFit:
        return BoxFit(self.header.input.box_padding, self.header.input.aspect)

    def predict(
        self, image: UINT8, boxes_xyxy: ArrayLike | None = None, bgr: bool = False
    ) -> PoseResult:
        """Find one pose in each box of an image.

        Args:
            image: uint8 (H, W, 3), RGB unless `bgr`.
            boxes_xyxy: (N, 4), left, top, right and bottom in pixels; None is one box, the image.
            bgr: The image is in the order of OpenCV.

        Returns:
            Keypoints in pixels of the image, one pose a box, in the order of the boxes.

        Raises:
            UserError: The image or the boxes have another form.
            FloatingPointError: The network's output is not finite.

        Example:
            >>> poses = model.predict(image, boxes_xyxy=[[4, 4, 36, 60], [30, 2, 60, 62]])
            >>> poses.keypoints.shape, poses.scores.shape
            ((2, 17, 2), (2, 17))
        """
        image = checked_image(image, bgr)
        boxes_N4 = checked_boxes(boxes_xyxy, image)
        return PoseResult(*self.find(image, boxes_N4), boxes_N4, image, self.skeleton)

    def find(self, image: UINT8, boxes_N4: FloatArray) -> tuple[FloatArray, NDArray[np.float32]]:
        """Find one pose in each box; see `predict`, which checks what it is given.

        Args:
            image: uint8 RGB (H, W, 3).
            boxes_N4: Left, top, right and bottom in pixels of the image.

        Returns:
            Keypoints (N, K, 2) in pixels of the image, and their scores (N, K).
        """
        shown = self.header.input
        crops_NHW3, input_from_image_N23 = box_crops(
            image, boxes_N4, shown.hw, self.codec.span_hw, self._fit
        )
        xy_NK2 = np.empty((len(boxes_N4), self.skeleton.num_joints, 2))
        scores_NK = np.empty(xy_NK2.shape[:2], np.float32)
        for first in range(0, len(boxes_N4), self.batch_size):
            rows = slice(first, first + self.batch_size)
            xy_NK2[rows], scores_NK[rows] = self._find(crops_NHW3[rows])
        return from_upright(input_from_image_N23, xy_NK2), scores_NK

    def track(
        self,
        source: str | Path,
        detector: Detector | None = None,
        detect_every: int = DETECT_EVERY,
        smooth: bool = False,
    ) -> Iterator[PoseResult]:
        """Find the poses in each frame of a source, one frame after another.

        Args:
            source: As `open_source` takes it: a video, a camera's number, a stream; images.
            detector: Of persons (`open_detector`). Without one, the whole frame is looked at first,
                and the box then follows the pose.
            detect_every: Frames of a video from one run of the detector to the next.
            smooth: Smooth the joints of each track by a One-Euro filter.

        Returns:
            The poses frame by frame, with track ids in videos. A frame is read when its turn comes.

        Raises:
            UserError: The source cannot be read, or the detector used.

        Example:
            >>> for poses in model.track(video):
            ...     print(poses.index, f"{poses.time_s:.2f} s", poses.ids, poses.keypoints.shape)
            0 0.00 s [0] (1, 17, 2)
            1 0.04 s [0] (1, 17, 2)
        """
        return track(self, source, detector, TrackSettings(detect_every, smooth))

    def runner(self) -> Runner:
        """Return what finds the poses of a video's frames: by the networks of a clip, key frames
        are scheduled per person; any other network sees every frame by itself."""
        if not isinstance(self.network, ClipNetworks):
            return ImageRunner(self.find)
        return ClipRunner(
            self.network.eval().run_frame,
            KeyFrameSchedule(len(self.network.arch) - 1, self.header.key_frames),
            self.skeleton,
            self.codec.at(self.network.arch.largest),
            next(self.network.parameters()).device,
            self.batch_size,
            self._fit,
            self._normalised,
            str(self.path),
            self.network.arch,
        )

    def heatmap_network(self) -> nn.Module:
        """The network, from normalised images to heatmaps; raises UserError for a file that has
        another form."""
        if self.header.kind == "clip":
            raise UserError(str(self.path), "a network of images", "a file of kind clip")
        if isinstance(self.network, ExportedNetwork):
            for name, found, needed in (
                ("takes", self.network.takes, NORMALISED),
                ("gives", self.network.gives, HEATMAPS),
            ):
                if found != needed:
                    raise UserError(f"{self.path}: {name}", needed, found)
        return self.network

    def pose_net(self) -> PoseNet:
        """The network in PyTorch; raises UserError for an exported file."""
        if self.header.kind == "clip":
            raise UserError(str(self.path), "a network of images", "a file of kind clip")
        if not isinstance(self.network, PoseNet):
            raise UserError(str(self.path), "weights", "an exported file")
        return self.network

    def _find(self, crops_NHW3: UINT8) -> tuple[np.ndarray, np.ndarray]:
        """Return joints (N, K, 2) in input pixels, and their scores (N, K)."""
        network = self._image_network
        gives_joints = getattr(network, "gives", HEATMAPS) == KEYPOINTS
        if isinstance(network, ExportedNetwork) and (gives_joints or not self.flip_test):
            output = network.run(self._input(network, crops_NHW3))
            self._check_finite(output, "joints" if gives_joints else "heatmaps")
            if gives_joints:
                return output[..., :2], output[..., 2]
            return self.codec.decode_array(output)
        heatmaps_NKhw = self._heatmaps(torch.from_numpy(crops_NHW3).permute(0, 3, 1, 2))
        self._check_finite(heatmaps_NKhw, "heatmaps")
        xy_NK2, scores_NK = self.codec.decode(heatmaps_NKhw)
        return xy_NK2.cpu().numpy(), scores_NK.cpu().numpy()

    @torch.no_grad()
    def _heatmaps(self, crops_N3HW: Tensor) -> Tensor:
        network = self._image_network.eval()
        crops_N3HW = crops_N3HW.to(next(network.parameters()).device)
        if not self.flip_test:
            return run_contiguous(self._run, crops_N3HW)
        flip_order, shift = self.skeleton.flip_order, self.header.input.flip_shift
        return flip_tested(self._run, crops_N3HW, self.codec, flip_order, shift)

    def _input(self, network: ExportedNetwork, crops_NHW3: UINT8) -> np.ndarray:
        """Return crops in the form that an exported network takes: `_run` without torch, whose
        calls cost as much as a small network."""
        shown = self.header.input
        if network.takes == PIXELS:
            return crops_NHW3
        return normalise_pixels(crops_NHW3, shown.mean, shown.std)

    def _run(self, crops_N3HW: Tensor) -> Tensor:
        """Return the network's output for uint8 RGB crops, in the form that it takes."""
        if getattr(self._image_network, "takes", NORMALISED) == PIXELS:
            found: Tensor = self._image_network(crops_N3HW.permute(0, 2, 3, 1))
            return found
        found = self._image_network(self._normalised(crops_N3HW))
        return found

    def _normalised(self, crops_N3HW: Tensor) -> Tensor:
        """Return uint8 crops as the network is shown them, by the header."""
        return normalise(crops_N3HW, self.header.input.mean, self.header.input.std)

    @property
    def _image_network(self) -> nn.Module:
        """Return the network of images; for a clip, that of key frames."""
        if isinstance(self.network, ClipNetworks):
            return self.network.key_frame
        return self.network

    def _check_finite(self, values: Tensor | np.ndarray, what: str) -> None:
        # One number that is not finite makes the sum so.
        if not math.isfinite(values.sum()):
            raise FloatingPointError(f"{self.path}: expected finite {what}, got others")
