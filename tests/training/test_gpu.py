"""The same promises on a GPU as on a CPU, where they hold bit for bit and are tested at length.

Convolutions are in full float32 (no TF32) and take their deterministic ways, so that tolerances are
those of sums in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiment_fixture import EXPERIMENT
from model_fixture import load_network, save_network
from networks_fixture import randomise_batch_norm
from torch import Tensor
from torch.nn import functional as F
from training_fixture import batch_of, codec_of, sampler_of, supernet_of

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.config.experiment import ExperimentConfig
from vipnas.config.schedule import Schedule
from vipnas.config.training import Compute
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.loader import Batch
from vipnas.files import parse
from vipnas.models.grouped import Spread
from vipnas.models.posenet import PoseNet, extract
from vipnas.models.slicing import crop
from vipnas.pipeline import batch_size
from vipnas.pipeline.experiment import Experiment
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.training.callbacks.keeping import CheckpointFile
from vipnas.training.capture import CapturedBackward
from vipnas.training.compute import Forward, make_forward
from vipnas.training.loop import Training
from vipnas.training.sampling import SampledSubnet
from vipnas.training.step import ImageTask, Task, network_backward, supernet_backward

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
RESIDUAL = "published/s_vipnas_res50"
SCHEDULE = Schedule(epochs=1, batch_size=2, learning_rate=1e-3, warmup_steps=3, clip_norm=1.0)
# bfloat16 keeps 8 bits: the same sums in another order differ by that, over some 20 layers.
NUM_STEPS = 8
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def supernet_there(space: SearchSpace) -> PoseNet:
    network = PoseNet(space.max_arch())
    randomise_batch_norm(network, seed=0)
    return network.to(DEVICE)


def images_there(space: SearchSpace) -> Tensor:
    return normalise(batch_of(space, 0)[0].to(DEVICE))


def assert_near(found: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    """By the norm of the difference: single numbers near 0 say nothing."""
    assert bool(torch.isfinite(found).all()) and float(expected.norm()) > 0, name
    difference = float((found - expected).norm() / expected.norm())
    assert difference < tolerance, f"{name}: {difference}"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_slice_computes_what_the_extracted_network_does(
    space: SearchSpace, precision: str
) -> None:
    """Heatmaps and gradients; and float32 what a CPU computes."""
    supernet, images, arch = supernet_there(space).eval(), images_there(space), space.min_arch()
    network, tolerance = extract(supernet, arch), TOLERANCES[precision]
    compute = Compute(precision=precision)  # type: ignore[arg-type]

    def heatmaps_of(forward: Forward, *member: object) -> Tensor:
        heatmaps = forward(images, *member)  # type: ignore[arg-type]
        heatmaps.square().mean().backward()
        assert heatmaps.dtype == torch.float32
        return heatmaps.detach()

    found = heatmaps_of(make_forward(supernet, compute), arch)
    assert_near(found, heatmaps_of(make_forward(network, compute), None), tolerance, "heatmaps")
    for name, layer in network.named_modules():
        full = supernet.get_submodule(name)
        for tensor_name, parameter in layer.named_parameters(recurse=False):
            gradient = getattr(full, tensor_name).grad
            groups = (getattr(layer, "groups", 1), getattr(full, "groups", 1))
            assert parameter.grad is not None
            window = crop(gradient, parameter.shape, *groups)
            if not f"{name}.{tensor_name}".endswith("mask.bias"):  # 0 but for rounding: a softmax
                assert_near(window, parameter.grad, tolerance, f"{name}.{tensor_name}")
            assert torch.count_nonzero(gradient) == torch.count_nonzero(window), name
    if precision == "float32":
        on_cpu = extract(supernet, arch).cpu()(images.cpu())
        assert_near(found.cpu(), on_cpu.detach(), 1e-3, "heatmaps of a CPU")


def test_a_step_in_bfloat16_trains_the_window_and_nothing_else(tiny_space: SearchSpace) -> None:
    supernet, smallest = supernet_of(tiny_space).to(DEVICE), tiny_space.min_arch()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    compute = Compute(precision="bfloat16")
    members = (SampledSubnet("smallest", (smallest,)),)
    task: Task[Arch] = ImageTask(make_forward(supernet, compute), codec_of(tiny_space))
    backward = supernet_backward(task, lambda step: members)
    training = Training(supernet, SCHEDULE, 2, compute)
    batches = [batch_of(tiny_space, step) for step in range(2)]
    training.run(lambda first, count: iter(batches), backward)
    assert bool(torch.isfinite(training.mean_loss)) and float(training.mean_loss) > 0
    used = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    for name, layer in extract(supernet, smallest).named_modules():
        full = supernet.get_submodule(name)
        groups = (getattr(layer, "groups", 1), getattr(full, "groups", 1))
        for tensor_name, parameter in layer.named_parameters(recurse=False):
            shape = used[f"{name}.{tensor_name}"].shape
            numbers = torch.arange(shape.numel(), device=DEVICE).view(shape)
            places = crop(numbers, parameter.shape, *groups)
            used[f"{name}.{tensor_name}"].view(-1)[places.flatten()] = 1
    for name, tensor in supernet.named_parameters():
        changed = tensor != before[name]
        assert not bool((changed & (used[name] == 0)).any()), name
    stem = "layers.stem.conv.weight"
    assert torch.equal(supernet.get_parameter(stem) != before[stem], used[stem] == 1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recorded_step_trains_as_one_that_is_not(tiny_space: SearchSpace, precision: str) -> None:
    """Weights, running statistics and loss, with another batch in every step."""

    def trained_alone(cuda_graph: bool) -> Training:
        network = supernet_of(tiny_space).to(DEVICE)
        compute = Compute(precision=precision, cuda_graph=cuda_graph)  # type: ignore[arg-type]
        backward = network_backward(ImageTask(make_forward(network, compute), codec_of(tiny_space)))
        training = Training(network, SCHEDULE, NUM_STEPS, compute)
        assert training.captures == cuda_graph
        batches = (batch_of(tiny_space, step) for step in range(NUM_STEPS))
        training.run(lambda first, count: batches, backward, same_every_step=True)
        return training

    recorded, plain, start = trained_alone(True), trained_alone(False), supernet_of(tiny_space)
    assert_near(moved(recorded, start), moved(plain, start), TOLERANCES[precision], "weights")
    for (name, found), expected in zip(
        recorded.network.named_buffers(), plain.network.buffers(), strict=True
    ):
        assert_near(found.float(), expected.float(), TOLERANCES[precision], name)
    assert_near(recorded.mean_loss, plain.mean_loss, 0.01, "loss")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [4, 16])
def test_a_dense_form_computes_what_the_groups_do(groups: int, transposed: bool) -> None:
    """Output and gradients, layer by layer. (Of a deep network that normalises by its batch
    roundings of 1e-7 in each layer move gradients by percents.)"""
    x = torch.randn(4, 64, 24, 20, device=DEVICE).contiguous(memory_format=torch.channels_last)
    rows, columns = (64, 96 // groups) if transposed else (96, 64 // groups)
    weight = torch.randn(rows, columns, 3, 3, device=DEVICE).requires_grad_()
    x.requires_grad_()
    run = F.conv_transpose2d if transposed else F.conv2d
    outcomes = []
    for form, count in ((Spread.apply(weight, groups), 1), (weight, groups)):
        output = run(x, form, None, 1, 1, groups=count)
        gradients = torch.autograd.grad(output.square().sum(), (x, weight))
        outcomes.append((output.detach(), *gradients))
    for found, expected in zip(*outcomes, strict=True):
        assert_near(found, expected, 1e-4, "output, or gradient of the input or the weight")


def test_a_recorded_step_computes_groups_as_dense_where_that_is_quicker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In bfloat16, of a network that has many groups; with the same loss."""
    arch = replace(read_arch(find_shipped("search_spaces", RESIDUAL)), input_hw=(64, 64))
    network = PoseNet(arch)
    randomise_batch_norm(network, seed=0)
    forward = make_forward(network.to(DEVICE).train(), Compute(precision="bfloat16"))
    images = torch.randn(8, 3, *arch.input_hw, device=DEVICE)
    targets = torch.rand(8, arch.num_keypoints, *arch.heatmap_hw, device=DEVICE)

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        loss = (forward(batch[0], None) - batch[1]).square().mean()
        loss.backward()
        return {"loss": loss.detach()}

    spread, apply = [], Spread.apply
    monkeypatch.setattr(Spread, "apply", lambda *given: spread.append(1) or apply(*given))
    losses = []
    for dense in (False, True):
        recorded = CapturedBackward(network, backward, dense)
        losses.append(recorded(0, (images, targets))["loss"])
        assert bool(spread) == dense
        assert all(
            parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())
            for parameter in network.parameters()
        )
    assert_near(losses[1], losses[0], TOLERANCES["bfloat16"], "loss")


def trained(
    space: SearchSpace, directory: Path, stop_after: int = NUM_STEPS, device: str = DEVICE
) -> Training:
    """As a run does it, from the checkpoint in the directory if there is one."""
    supernet = supernet_of(space).to(device)
    backward = supernet_backward(
        ImageTask(make_forward(supernet, Compute(precision="float32")), codec_of(space)),
        sampler_of(space),
    )
    training = Training(supernet, SCHEDULE, NUM_STEPS)
    checkpoint = CheckpointFile(directory / "checkpoint.pt", {"seed": 0}, 1e9)
    checkpoint.resume(training)

    def batches(first: int, count: int) -> Iterator[Batch]:
        for step in range(first, min(first + count, stop_after)):
            yield batch_of(space, step)

    training.run(batches, backward)
    checkpoint.save(training)
    return training


def moved(training: Training, start: PoseNet) -> Tensor:
    """How far all weights together have come."""
    pairs = zip(training.network.parameters(), start.parameters(), strict=True)
    return torch.cat([(now.cpu() - then).flatten() for now, then in pairs]).detach()


def test_a_resumed_training_ends_where_the_unbroken_one_does(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    """Not bit for bit: max pooling adds on the way back in whatever order its threads come. Losing
    the optimiser's state moves the weights by a third of their way."""
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "broken").mkdir()
    start = supernet_of(tiny_space)
    unbroken = trained(tiny_space, tmp_path / "unbroken")
    trained(tiny_space, tmp_path / "broken", stop_after=NUM_STEPS // 2)
    resumed = trained(tiny_space, tmp_path / "broken")
    assert resumed.step == unbroken.step == NUM_STEPS
    assert_near(moved(resumed, start), moved(unbroken, start), 0.02, "weights")


def test_a_cpu_goes_on_where_a_gpu_stopped(tiny_space: SearchSpace, tmp_path: Path) -> None:
    """With another optimiser, by kernels (`fused`) there and by numbers here."""
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "broken").mkdir()
    start = supernet_of(tiny_space)
    unbroken = trained(tiny_space, tmp_path / "unbroken")
    trained(tiny_space, tmp_path / "broken", stop_after=NUM_STEPS // 2)
    resumed = trained(tiny_space, tmp_path / "broken", device="cpu")
    assert resumed.step == unbroken.step == NUM_STEPS
    assert_near(moved(resumed, start), moved(unbroken, start), 0.1, "weights")


def test_what_was_saved_on_a_gpu_is_read_on_a_cpu(tiny_space: SearchSpace, tmp_path: Path) -> None:
    supernet = supernet_there(tiny_space).eval()
    images = images_there(tiny_space)
    path = tmp_path / "network.safetensors"
    save_network(path, supernet)
    loaded = load_network(path)
    assert {tensor.device.type for tensor in loaded.state_dict().values()} == {"cpu"}
    with torch.no_grad():
        assert_near(supernet(images).cpu(), loaded(images.cpu()), 1e-3, "heatmaps")


def test_the_batch_size_of_auto_fits(tmp_path: Path) -> None:
    """A network of a few kilobytes fits with the largest batch."""
    config = parse(ExperimentConfig, EXPERIMENT, "test")
    experiment = Experiment(config, tmp_path, tmp_path, torch.device(DEVICE))
    measure = batch_size.bytes_of_step(experiment)
    found = [measure(count) for count in (8, 64, 256)]
    assert None not in found and found == sorted(found)  # type: ignore[type-var]
    schedule = Schedule(epochs=1, batch_size="auto", learning_rate=1e-3)
    assert batch_size.with_batch_size(experiment, schedule, tmp_path).batch == 256
