"""Files of weights of the temporal level: the supernet of the follow-up frames, and all networks of
a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vipnas.arch.clip import Fusion
from vipnas.arch.io import arch_from_json, video_arch_from_json
from vipnas.files import parse, to_plain
from vipnas.models.clipnet import FollowUpNet, VideoNet, build_video_net
from vipnas.training.checkpoint import held, load_checkpoint, load_strictly, save_checkpoint


def save_follow_up_supernet(path: Path, supernet: FollowUpNet, **found: Any) -> None:
    """Weights, arch and fusions in one file."""
    content = {
        "follow_up_arch": supernet.arch.arch.to_json(),
        "fusions": [to_plain(fusion) for fusion in supernet.fusions],
        "network": supernet.state_dict(),
        "found": found,
    }
    save_checkpoint(path, content)


def load_follow_up_supernet(path: Path) -> FollowUpNet:
    """The supernet of a file of `save_follow_up_supernet`, in evaluation mode, loaded strictly."""
    content = _content(path, "follow_up_arch", "the supernet of follow-up frames")
    fusions = parse(tuple[Fusion, ...], held(content, "fusions", list, path), str(path))
    arch = arch_from_json(held(content, "follow_up_arch", str, path), str(path))
    supernet = FollowUpNet(arch, fusions, initialise=False)
    load_strictly(supernet, content.get("network"), path)
    return supernet.eval()


def save_video(path: Path, network: VideoNet, **found: Any) -> None:
    """All networks of a clip and their arch in one file: all that is needed to run them."""
    content = {
        "video_arch": network.arch.to_json(),
        "network": network.state_dict(),
        "found": found,
    }
    save_checkpoint(path, content)


def load_video(path: Path) -> VideoNet:
    """The networks of a file of `save_video`, in evaluation mode, loaded strictly."""
    content = _content(path, "video_arch", "the networks of a clip")
    arch = video_arch_from_json(held(content, "video_arch", str, path), str(path))
    network = build_video_net(arch, initialise=False)
    load_strictly(network, content.get("network"), path)
    return network.eval()


def _content(path: Path, key: str, what: str) -> dict[str, Any]:
    content = load_checkpoint(path)
    if key not in content:
        raise ValueError(f"{path}: does not hold {what}: no {key} in it")
    return content
