"""Where the people of an experiment come from: files or synthesis; read, and told by content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vipnas.config.data import Data, PoseFiles, SyntheticData, SyntheticVideo
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.joined import join, joined, read_parts, with_real_labels_first
from vipnas.data.formats.posetrack import read_posetrack
from vipnas.data.formats.posetrack_files import annotation_files
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.formats.splits import hold_out, subset
from vipnas.files import to_plain
from vipnas.settings import content_digest, listing_digest, plain_digest
from vipnas.synthetic import images, videos
from vipnas.threads import usable_cores

Source = Literal["train", "test"]

# The synthetic test set has another seed than the training set.
TEST_SEED_OFFSET = 1_000_003


@dataclass(frozen=True)
class Sources:
    """The sources that the section `data` names.

    Paths of the data are relative to `data_root`; synthetic sets are written below `synthetic`.
    """

    config: Data
    data_root: Path
    synthetic: Path
    skeleton: Skeleton
    seed: int
    skip_bad_images: bool = False
    check_images: bool = True

    def read(self, source: Source) -> PoseData:
        """Read the people of a source; synthetic ones are generated first."""
        config, directory = self.config, self.synthetic / source
        num_workers = usable_cores()
        if config.synthetic is not None:
            wanted = self._images(config.synthetic, source)
            images.synthesize(directory, **wanted, num_workers=num_workers)
            return read_coco(directory / images.ANNOTATIONS, directory / "images", self.skeleton)
        if config.synthetic_video is not None:
            wanted = self._videos(config.synthetic_video, source)
            videos.synthesize_video(directory, **wanted, num_workers=num_workers)
            return read_posetrack(directory / "annotations", directory, self.skeleton)
        files = self._files(source)
        if files.posetrack is not None:
            assert isinstance(files.images, str)
            paths = self.data_root / files.posetrack, self.data_root / files.images
            return read_posetrack(*paths, self.skeleton, self._reading)
        return joined(self._parts(files), self._reading, renumber=source == "train")

    def train_and_val(self) -> tuple[PoseData, PoseData]:
        """Read the source `train`, and split it into the training and the validation set.

        With `val_from`, the validation set has the ids of these files, read without the others.
        """
        config, seed = self.config, self.seed
        if config.val_from is None:
            data = self.read("train")
            if config.max_train_persons is not None:
                data = subset(data, config.max_train_persons + config.val_persons, seed)
            return hold_out(data, config.val_persons, seed)
        files = self._files("train")
        parts = self._parts(files)
        data = joined(parts, self._reading, renumber=True)
        val_parts = [parts[place] for place in config.val_places]
        val_data = join(with_real_labels_first(val_parts), renumber=True)
        rest, val = hold_out(data, config.val_persons, seed, val_data)
        if config.max_train_persons is not None:
            rest = subset(rest, config.max_train_persons, seed)
        return rest, val

    def settings(self, source: Source, parts: Callable[[], Sequence[PoseData]]) -> dict[str, Any]:
        """Return what files hold, or which synthetic set it is, which needs no look at its files.

        `parts` returns the data sets that were read from the source.
        """
        config = self.config
        if config.synthetic is not None:
            return {"synthetic": images.settings_of(**self._images(config.synthetic, source))}
        if config.synthetic_video is not None:
            settings = videos.settings_of(**self._videos(config.synthetic_video, source))
            return {"synthetic_video": settings}
        files = self._files(source)
        paths = [self.data_root / annotations for annotations, _ in files.coco_files]
        if files.posetrack is not None:
            paths = annotation_files(self.data_root / files.posetrack)
        digests = [content_digest(path) for path in paths]
        val_files = [digests[place] for place in config.val_places if source == "train"]
        chosen = {
            "categories": config.categories,
            "exif": config.exif,
            "weights": files.weights,
            "val_from": _one_digest(val_files) if val_files else None,
        }
        named = [
            (image["file_name"], part.image_root / image["file_name"])
            for part in parts()
            for image in part.ground_truth["images"]
        ]
        return {
            "annotations": _one_digest(digests),
            "images": listing_digest(named),
            **{name: to_plain(value) for name, value in chosen.items() if value is not None},
        }

    def _parts(self, files: PoseFiles) -> list[PoseData]:
        paths = [
            (self.data_root / annotations, self.data_root / images)
            for annotations, images in files.coco_files
        ]
        return read_parts(paths, self.skeleton, self._reading, files.weights)

    def _files(self, source: Source) -> PoseFiles:
        files = self.config.train if source == "train" else self.config.test
        assert files is not None
        return files

    @property
    def _reading(self) -> Reading:
        return Reading(
            self.skip_bad_images,
            self.config.exif == "ignore",
            self.config.categories,
            check_images=self.check_images or self.skip_bad_images,  # only checks tell what to skip
        )

    def _images(self, config: SyntheticData, source: Source) -> dict[str, Any]:
        train = source == "train"
        return {
            "num_images": config.num_train_images if train else config.num_test_images,
            "seed": self._synthetic_seed(source),
            "image_hw": config.image_hw,
            "people_per_image": config.people_per_image,
            "difficulty": config.difficulty,
        }

    def _videos(self, config: SyntheticVideo, source: Source) -> dict[str, Any]:
        train = source == "train"
        own = config.num_train_frames if train else None
        return {
            "num_videos": config.num_train_videos if train else config.num_test_videos,
            "seed": self._synthetic_seed(source),
            "num_frames": own or config.num_frames,
            "image_hw": config.image_hw,
            "people_per_video": config.people_per_video,
            "difficulty": config.difficulty,
            "speed": config.speed,
        }

    def _synthetic_seed(self, source: Source) -> int:
        return self.seed + (TEST_SEED_OFFSET if source == "test" else 0)


def _one_digest(digests: Sequence[str]) -> str:
    return digests[0] if len(digests) == 1 else plain_digest(digests)
