"""Open pose models of every kind by name: of vipnas, exported, or of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vipnas.deploy.description import preset_names
from vipnas.deploy.export import Form, export_network
from vipnas.deploy.export_clip import export_video
from vipnas.deploy.foreign import ForeignPoseModel, open_pose_model
from vipnas.deploy.loading import load
from vipnas.deploy.model import PoseModel
from vipnas.errors import UserError
from vipnas.models.clipnet import VideoNet
from vipnas.runtimes import torch_eager
from vipnas.runtimes.exported import ExportedNetwork
from vipnas.runtimes.exported_clip import ExportedClip
from vipnas.runtimes.table import DEFAULT_RUNTIME, RUNTIMES, runtime_of_file


def is_foreign(spec: str) -> bool:
    """Return whether a name is that of a model of others: `PRESET:FILE.onnx`, `FILE.yaml`, or
    `FILE.onnx` with a description of the same name beside it."""
    path = Path(spec)
    if spec.partition(":")[0] in preset_names("poses") or path.suffix == ".yaml":
        return True
    return path.suffix == ".onnx" and path.with_suffix(".yaml").is_file()


def open_poses(
    spec: str,
    load_own: Callable[[], PoseModel],
    runtime: str | None = None,
    threads: int = 1,
    device: str = "cpu",
) -> PoseModel | ForeignPoseModel:
    """Open a model that finds poses.

    Args:
        spec: Its name, on the command line.
        load_own: Opens a model of vipnas.
        runtime: A row of the table of runtimes. Weights are exported for it first, to a temporary
            file; None runs them in this process.
        threads: CPU threads of models of others.
        device: Where models of others run.

    Raises:
        UserError: The file cannot be used, or not by this runtime.
    """
    if is_foreign(spec):
        return open_pose_model(spec, threads, runtime=runtime or DEFAULT_RUNTIME, device=device)
    model = load_own()
    return model if runtime is None else in_runtime(model, runtime)


def in_runtime(model: PoseModel, name: str) -> PoseModel:
    """Return the model as the runtime runs it."""
    is_exported = isinstance(model.network, (ExportedNetwork, ExportedClip))
    file = RUNTIMES.named(name, "--runtime").file
    if name == torch_eager.RUNTIME.name and not is_exported:
        return model
    if file is None:
        able = [name for name, runtime in RUNTIMES.items() if runtime.file is not None]
        raise UserError.not_one_of("--runtime", able, name)
    if isinstance(model.network, VideoNet):
        if name != DEFAULT_RUNTIME:
            raise UserError("--runtime", f"{DEFAULT_RUNTIME} for the networks of a clip", name)
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            export_video(model.network, Path(folder), model.header)
            return replace(load(folder, flip_test=model.flip_test), path=model.path)
    if is_exported:
        return _checked(model, name)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"network{file.suffix}"
        export_network(model.pose_net(), path, Form(file.name), header=model.header)
        return replace(load(path, flip_test=model.flip_test), path=model.path)


def _checked(model: PoseModel, name: str) -> PoseModel:
    """Return an exported model; its suffix says what runs it."""
    is_clip = isinstance(model.network, ExportedClip)
    path = next(model.path.glob("key_frame.*")) if is_clip else model.path
    own = runtime_of_file(path)[0].name
    if own != name:
        raise UserError("--runtime", f"{own}, which runs {path.suffix} files", name)
    return model
