"""MOTA beside the rule of the official PoseTrack kit, restated here from its description."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from posetrack_frames import EARS, POSETRACK_18, random_frames, random_results, truth_as_results
from tool_fixture import tool

from vipnas.cli.main import main
from vipnas.data.formats.posetrack import Video
from vipnas.evaluation.mota import mota

pytest.importorskip("motmetrics")


def random_videos(seed: int) -> tuple[list[Video], list[dict[str, Any]]]:
    """Two, with frames without people, without predictions, without either joints."""
    rng = np.random.default_rng(seed)
    frames = random_frames(rng, 14, 3)
    everybody = truth_as_results(frames) + random_results(rng, frames)
    silent = {int(frame.image_id) for frame in frames if rng.uniform() < 0.25}
    results: list[dict[str, Any]] = []
    for result in everybody:
        if result["image_id"] not in silent:
            taken = {r["track_id"] for r in results if r["image_id"] == result["image_id"]}
            free = next(n for n in range(result["track_id"], 10**6, 1000) if n not in taken)
            results.append({**result, "track_id": free})
    return [Video("a", frames[:9]), Video("b", frames[9:])], results


@pytest.mark.parametrize("seed", range(4))
def test_mota_is_that_of_the_official_kit(seed: int) -> None:
    videos, results = random_videos(seed)
    found = mota(videos, results, POSETRACK_18)
    expected = tool("fuzz.posetrack_rule").mota(videos, results, EARS)
    assert found.mean == pytest.approx(expected, abs=1e-12)
    # The cases tell the rules apart.
    assert abs(found.mean - mota(videos, results, POSETRACK_18, "all-frames").mean) > 1e-3


def test_without_predictions_a_frame_counts_once_for_each_joint() -> None:
    """Two people in nine frames, and in the last, which does not count: eight whole frames and one
    silent one have 17 objects a joint, with one miss and one false positive."""
    frames = random_frames(np.random.default_rng(0), 10, 0)
    person = next(p for f in random_frames(np.random.default_rng(5), 9, 3) for p in f.people)
    person = dataclasses.replace(person, keypoints_K3=np.full((17, 3), 9, np.float32))
    people = tuple(dataclasses.replace(person, track_id=track) for track in (0, 1))
    labelled = tuple(
        dataclasses.replace(frame, people=people, ignore_regions=()) for frame in frames
    )
    results = truth_as_results(labelled)
    heard = [result for result in results if result["image_id"] != labelled[4].image_id]
    video = Video("v", labelled)
    assert mota([video], results, POSETRACK_18).mean == 1
    assert mota([video], heard, POSETRACK_18).mean == pytest.approx(1 - 2 / 17)
    every_frame = mota([video], heard, POSETRACK_18, "all-frames")
    assert every_frame.mean == pytest.approx(1 - 2 / 20)
    with pytest.raises(
        ValueError, match="expected two annotated frames .*the rule poseval leaves out"
    ):
        mota([Video("v", labelled[:1])], [], POSETRACK_18)


def test_the_command_counts_by_the_rule_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says which it was."""
    from experiment_fixture import EXPERIMENT, write_experiment

    from vipnas.synthetic.videos import synthesize_video

    files = {"posetrack": "set/annotations", "images": "set"}
    document = {**EXPERIMENT, "data": {"train": files, "test": files}, "skeleton": "posetrack_18"}
    experiment = write_experiment(tmp_path, document)
    synthesize_video(tmp_path / "set", 1, 3, 4, (96, 128), (2, 2), 1)
    annotations = json.loads(next((tmp_path / "set" / "annotations").iterdir()).read_text())
    last = max(entry["image_id"] for entry in annotations["annotations"])
    results = [
        {
            "image_id": entry["image_id"],
            "category_id": 1,
            "score": 1.0,
            "track_id": entry["track_id"] + (entry["image_id"] == last),
            "keypoints": [float(number) for number in entry["keypoints"]],
        }
        for entry in annotations["annotations"]
    ]
    (tmp_path / "found.json").write_text(json.dumps(results))
    places = ["--data-root", str(tmp_path), "--from-results", str(tmp_path / "found.json")]
    command = ["evaluate", str(experiment), *places, "--output", str(tmp_path / "run"), "--json"]
    means = {}
    for rule in ("poseval", "all-frames"):
        chosen = ["--mota-rule", rule, "--metrics", "mota", "coco", "--official"]
        assert main([*command, *chosen]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["mota"]["rule"] == rule
        assert found["coco"]["ap"] == pytest.approx(1)
        means[rule] = found["mota"]["mean"]
    assert means["all-frames"] < means["poseval"] == 1  # all switches are in the last frame
