"""Tables: made, killed, resumed, refused, and what is predicted from them."""

from __future__ import annotations

import copy
import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from statistics import mean, pstdev

import pytest
from errors_fixture import refused
from made_up_device import KEY, MadeUpDevice, made_up_ms

from vipnas.config.search import LatencyConfig
from vipnas.files import digest
from vipnas.latency import predictors as predict
from vipnas.latency import profile
from vipnas.latency.interleaved import Latency, TooNoisy, WithAnchor
from vipnas.latency.measure import Key, fill_for_timing
from vipnas.latency.model import layers_of
from vipnas.latency.operations import Operation, describe
from vipnas.latency.predictors import Predictor, measurements, open_predictor, with_latency
from vipnas.latency.profile import (
    Profile,
    anchor_of,
    profile_space,
    profiled_archs,
    profiled_layers,
)
from vipnas.latency.table import (
    ArchTiming,
    Table,
    check_table,
    default_file,
    read_table,
    write_table,
)
from vipnas.models.blocks import HeatmapConv
from vipnas.models.counting import count_cost
from vipnas.models.posenet import plan
from vipnas.space.image import SearchSpace

AMOUNT = Profile(num_archs=12, num_blocks=30)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> MadeUpDevice:
    return MadeUpDevice(monkeypatch)


def quiet(text: str) -> None:
    pass


def test_a_table_holds_what_was_asked_for(
    device: MadeUpDevice, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    table = profile_space(tiny_space, KEY, path, AMOUNT, quiet)
    assert read_table(path) == table
    assert (len(set(table.archs)), len(table.blocks)) == (12, 30)
    # Ten archs or twenty blocks at a time.
    assert device.batches == [10, 2, 20, 10]
    layers = [table.layer_of(timing) for timing in table.blocks]
    assert len(set(layers)) == 30
    for timing, layer in zip(table.blocks, layers, strict=True):
        assert timing.latency.median_ms == pytest.approx(made_up_ms([layer]))


def test_each_network_is_measured_and_predicted_at_its_own_size(
    device: MadeUpDevice, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    sized = tiny_space.with_facts(input_hw=((32, 24), (64, 48)))
    path = tmp_path / "table.json"
    table = profile_space(sized, KEY, path, Profile(num_archs=24, num_blocks=40), quiet)
    shapes = [shape for shape in device.shapes_CHW[:24]]
    assert shapes == [(3, *timing.arch.input_hw) for timing in table.archs]
    assert {shape[1:] for shape in shapes} == {(32, 24), (64, 48)}
    predictor = Predictor(table, digest(path))
    for arch in (sized.min_arch(), sized.sample(random.Random(0))):
        for size in sized.inputs_hw:
            at = replace(arch, input_hw=size)
            assert predictor(at) == pytest.approx(made_up_ms(layers_of(at)), rel=0.15)


def test_a_killed_profile_goes_on_where_it_was(
    device: MadeUpDevice, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    whole = profile_space(tiny_space, KEY, tmp_path / "whole.json", AMOUNT, quiet)
    path = tmp_path / "killed.json"

    def kill(text: str) -> None:
        raise KeyboardInterrupt

    device.batches.clear()
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            profile_space(tiny_space, KEY, path, AMOUNT, kill)
    assert profile_space(tiny_space, KEY, path, AMOUNT, quiet) == whole
    assert device.batches == [10, 2, 20, 10]  # none was measured twice
    before = path.read_bytes()
    profile_space(tiny_space, KEY, path, AMOUNT, quiet)
    assert (path.read_bytes(), len(device.batches)) == (before, 4)


def test_a_noisy_moment_is_waited_for_and_a_noisy_machine_refused(
    device: MadeUpDevice,
    tiny_space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy_times = 0

    def noisy(*arguments: object) -> list[WithAnchor]:
        nonlocal noisy_times
        noisy_times -= 1
        if noisy_times >= 0:
            raise TooNoisy("machine", "a spread of at most 10%", "33%")
        return device.measure_with_anchor(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(profile, "measure_with_anchor", noisy)
    said: list[str] = []
    noisy_times = profile.TRIES - 1
    profile_space(tiny_space, KEY, tmp_path / "moment.json", AMOUNT, said.append)
    assert sum("retry in" in text for text in said) == profile.TRIES - 1
    noisy_times = profile.TRIES
    with pytest.raises(TooNoisy):
        profile_space(tiny_space, KEY, tmp_path / "machine.json", AMOUNT, quiet)


def test_a_slow_minute_is_put_right_by_the_anchor(
    device: MadeUpDevice, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    shown: list[str] = []

    def slow_down(text: str) -> None:
        shown.append(text)
        device.slowness = 1.5 if len(shown) == 1 else 1.0  # one of four batches

    table = profile_space(tiny_space, KEY, tmp_path / "table.json", AMOUNT, slow_down)
    slow = [timing for timing in table.archs if timing.anchor_ms > 1.4 * table.anchor_ms]
    assert len(slow) == 2
    for timing in table.archs:
        assert table.drift_corrected_ms(timing) == pytest.approx(made_up_ms(layers_of(timing.arch)))


def test_what_a_disturbed_machine_measured_is_not_learnt_from(
    device: MadeUpDevice, tiny_space: SearchSpace, tmp_path: Path
) -> None:
    table = profile_space(tiny_space, KEY, tmp_path / "table.json", AMOUNT, quiet)
    whole = measurements(table)

    def disturbed(timing: ArchTiming, slower: float) -> ArchTiming:
        """The anchor as much slower as said, the network as fast as ever."""
        return replace(timing, anchor_ms=slower * timing.anchor_ms)

    *others, last = table.archs
    barely = replace(table, archs=(*others, disturbed(last, 1.2)))
    assert len(measurements(barely).networks) == len(whole.networks)
    badly = replace(table, archs=(*others, disturbed(last, 1.3)))
    assert measurements(badly) == (whole.networks[:-1], whole.blocks)
    # Of two halves at two speeds one is the usual.
    half = len(table.archs) // 2
    slow = [disturbed(timing, 1.5) for timing in table.archs[half:]]
    assert len(measurements(replace(table, archs=(*table.archs[:half], *slow))).networks) == half


def test_archs_lie_evenly_from_small_to_large(tiny_space: SearchSpace) -> None:
    evenly = profiled_archs(tiny_space, Profile(num_archs=60, evenly=1.0))
    uniform = profiled_archs(tiny_space, Profile(num_archs=60, evenly=0.0))
    assert len(set(evenly)) == len(set(uniform)) == 60

    evenly_macs, uniform_macs = (
        [count_cost(arch).macs for arch in archs] for archs in (evenly, uniform)
    )
    assert pstdev(evenly_macs) > 1.5 * pstdev(uniform_macs)
    assert max(evenly_macs) > max(uniform_macs)
    assert anchor_of(tiny_space) in tiny_space


def test_a_space_smaller_than_the_table_is_measured_whole(small_space: SearchSpace) -> None:
    assert len(profiled_archs(small_space, Profile(num_archs=1000))) == small_space.size


def test_first_come_layers_with_a_kernel_that_none_before_has(tiny_space: SearchSpace) -> None:
    """The archs measured play no part, or cross-validation over them would know their layers."""
    places = profiled_layers(tiny_space, 10_000, seed=0)
    layers = [tuple(plan(arch))[number]._replace(name="") for arch, number in places]
    assert len(set(layers)) == len(layers)
    kernels_of = [
        {operation for operation in describe(layer).operations if operation.kernel_size > 1}
        for layer in layers
    ]
    seen: set[Operation] = set()
    everything = set().union(*kernels_of)
    needed = next(n for n in range(len(layers)) if set().union(*kernels_of[:n]) == everything)
    for kernels in kernels_of[:needed]:
        assert kernels - seen
        seen |= kernels
    assert needed < 0.3 * len(layers)
    assert all(arch in tiny_space for arch, _ in places)
    assert profiled_layers(tiny_space, 7, seed=0) == places[:7]


@pytest.fixture(scope="module")
def table_content(tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of 25 archs and 50 blocks."""
    path = tmp_path_factory.mktemp("table") / "table.json"
    with pytest.MonkeyPatch.context() as patch:
        MadeUpDevice(patch)
        profile_space(tiny_space, KEY, path, Profile(num_archs=25, num_blocks=50), quiet)
    return path.read_bytes()


@pytest.fixture
def table_file(device: MadeUpDevice, table_content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    path.write_bytes(table_content)
    return path


def test_unseen_archs_are_predicted(table_file: Path, tiny_space: SearchSpace) -> None:
    table = read_table(table_file)
    predictor = Predictor(table, digest(table_file))
    assert table.choice is not None
    assert table.choice.errors.keys() == set(predict.METHODS)
    assert table.choice.errors[table.choice.method] == min(table.choice.errors.values()) < 0.02
    known = {timing.arch for timing in table.archs}
    rng = random.Random(5)
    unseen = [arch for _ in range(40) if (arch := tiny_space.sample(rng)) not in known]
    errors = [abs(predictor(arch) / made_up_ms(layers_of(arch)) - 1) for arch in unseen]
    assert mean(errors) < 0.03
    # From memory, and in another process, it says the same.
    sent = pickle.loads(pickle.dumps(predictor))
    assert [predictor(arch) for arch in unseen] == [sent(arch) for arch in unseen]


def test_costs_get_milliseconds(table_file: Path, tiny_space: SearchSpace) -> None:
    predictor = Predictor(read_table(table_file), "")
    arch = tiny_space.max_arch()
    cost = with_latency(count_cost, predictor)(arch)
    assert replace(cost, latency_ms=None) == count_cost(arch)
    assert cost.latency_ms == round(predictor(arch), 4) > 0


def test_a_table_of_anything_else_is_refused(table_file: Path, tiny_space: SearchSpace) -> None:
    table = read_table(table_file)
    others: dict[str, object] = {
        "device": "another",
        "runtime": "openvino",
        "runtime_version": "2.0",
        "threads": 2,
        "batch": 4,
        "precision": "bf16",
        "accelerator": "cuda",
    }
    check_table(table_file, table, KEY, tiny_space)
    for name, value in others.items():
        wanted: Key = replace(KEY, **{name: value})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{table_file}: {name}: expected .* got "):
            check_table(table_file, table, wanted, tiny_space)
        if name in ("device", "runtime_version"):
            check_table(table_file, table, wanted, tiny_space, any_device=True)
        else:
            with pytest.raises(ValueError, match=f"{name}: expected"):
                check_table(table_file, table, wanted, tiny_space, any_device=True)
    with pytest.raises(
        ValueError, match="expected a table of the space tiny, .* with other options"
    ):
        check_table(table_file, table, KEY, tiny_space.with_facts(input_hw=(32, 32)))


def test_an_experiment_gets_its_table_or_one_line(
    table_file: Path, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "key_like", lambda key: replace(key, device="here"))
    config = LatencyConfig(table=str(table_file))
    with pytest.raises(ValueError, match="device: expected 'here', got 'made up'"):
        open_predictor(config, tiny_space)
    predictor = open_predictor(replace(config, any_device=True), tiny_space)
    assert predictor.fingerprint == digest(table_file)
    line = str(predictor.compare(tiny_space.min_arch()))
    assert line.endswith("not measured: device: expected 'made up', got 'here'")
    with pytest.raises(ValueError, match="runtime: expected 'openvino', got 'onnxruntime'"):
        open_predictor(replace(config, runtime="openvino", any_device=True), tiny_space)
    with pytest.raises(ValueError, match="no such file"):
        open_predictor(replace(config, table="none.json"), tiny_space)


def test_an_unfinished_table_is_refused(table_file: Path, tiny_space: SearchSpace) -> None:
    table = read_table(table_file)
    write_table(table_file, replace(table, blocks=table.blocks[:20], choice=None))
    config = LatencyConfig(table=str(table_file), any_device=True)
    with pytest.raises(ValueError, match="expected a complete table, .* 20 of 50 blocks"):
        open_predictor(config, tiny_space)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("archs", 1, "latency", "median_ms"),
            float("nan"),
            r"archs\[1\].latency.median_ms: expected a finite number, got nan",
        ),
        (
            ("archs", 1, "latency", "median_ms"),
            0.0,
            r"archs\[1\].latency.median_ms: expected a number greater than 0, got 0.0",
        ),
        (
            ("blocks", 0, "latency", "median_ms"),
            float("inf"),
            r"blocks\[0\].latency.median_ms: expected a finite number, got inf",
        ),
        (
            ("blocks", 0, "latency", "spread"),
            -1.0,
            r"blocks\[0\].latency.spread: expected a number greater than or equal to 0, got -1.0",
        ),
        (
            ("archs", 0, "latency", "num_samples"),
            0,
            r"archs\[0\].latency.num_samples: expected a number greater than 0, got 0",
        ),
        (
            ("archs", 0, "anchor_ms"),
            0.0,
            r"archs\[0\].anchor_ms: expected a number greater than 0, got 0.0",
        ),
        (
            ("blocks", 2, "anchor_ms"),
            float("nan"),
            r"blocks\[2\].anchor_ms: expected a finite number, got nan",
        ),
        (
            ("blocks", 2, "layer_number"),
            99,
            r"blocks\[2\].layer_number: expected 0 to \d+, the layers",
        ),
        (
            ("blocks", 2, "layer_number"),
            -1,
            r"blocks\[2\].layer_number: expected a number greater than or equal to 0, got -1",
        ),
        (("choice", "method"), "magic", "choice.method: expected one of blocks, .*, got 'magic'"),
        (
            ("choice", "errors", "blocks"),
            float("nan"),
            "choice.errors.blocks: expected a finite number, got nan",
        ),
        (("blocks",), [], "choice: expected measurements to predict from by operations, got 25 ar"),
        (("evenly",), float("inf"), "evenly: expected a finite number, got inf"),
    ],
)
def test_numbers_that_cannot_be_are_refused_when_the_table_is_opened(
    table_file: Path, place: tuple[str | int, ...], value: object, message: str
) -> None:
    document = json.loads(table_file.read_text())
    document["choice"]["method"] = "operations"
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    table_file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"^{table_file}: {message}") as error:
        read_table(table_file)
    assert "\n" not in str(error.value)


def test_the_winner_is_measured_beside_its_prediction(
    table_file: Path, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(read_table(table_file), "")
    arch = tiny_space.min_arch()
    predicted = predictor(arch)
    monkeypatch.setattr(predict, "key_like", lambda key: key)
    monkeypatch.setattr(
        predict, "measure_arch", lambda arch, key: Latency(predicted / 1.1, 0.01, 36)
    )
    assert str(predictor.compare(arch)).startswith(f"predicted {predicted:.2f} ms, measured ")
    assert str(predictor.compare(arch)).endswith(", +10.0%")

    def noisy(*arguments: object) -> Latency:
        raise TooNoisy("machine", "a spread of at most 10%", "33%")

    monkeypatch.setattr(predict, "measure_arch", noisy)
    why = "machine: expected a spread of at most 10%, got 33%"
    assert str(predictor.compare(arch)).endswith(f"ms, not measured: {why}")


def test_cross_validation_leaves_out_what_it_is_tried_on(
    table_file: Path, tiny_space: SearchSpace
) -> None:
    """Networks with times drawn by lot are predicted no better than the lot allows."""
    table = read_table(table_file)
    rng = random.Random(0)
    drawn = tuple(
        replace(timing, latency=replace(timing.latency, median_ms=rng.choice((1.0, 3.0))))
        for timing in table.archs
    )
    by_lot = predict.cross_validate(replace(table, archs=drawn, blocks=()))
    assert by_lot.method == "regression"
    assert by_lot.errors["regression"] > 0.3


def test_the_better_method_is_chosen(table_file: Path) -> None:
    """Where blocks were timed on some other device, the regression wins."""
    table = read_table(table_file)
    rng = random.Random(0)
    wrong = tuple(
        replace(timing, latency=replace(timing.latency, median_ms=rng.uniform(1, 100)))
        for timing in table.blocks
    )
    choice = predict.cross_validate(replace(table, blocks=wrong))
    assert choice.errors["regression"] < choice.errors["blocks"]
    assert choice.method != "blocks"


def test_the_scale_of_a_table_by_hand(tiny_space: SearchSpace) -> None:
    archs = profiled_archs(tiny_space, Profile(num_archs=3))
    timings = tuple(
        ArchTiming(Latency(ms, 0.0, 12), anchor_ms, arch)
        for ms, anchor_ms, arch in zip((20.0, 40.0, 30.0), (10.0, 20.0, 11.0), archs, strict=True)
    )
    table = Table(2, "0", KEY, "tiny", {}, 0, 0.5, 3, 0, timings)
    assert table.anchor_ms == 11.0
    assert [table.drift_corrected_ms(timing) for timing in timings] == pytest.approx(
        [22.0, 22.0, 30.0]
    )


def test_a_file_is_named_after_all_that_it_belongs_to(tiny_space: SearchSpace) -> None:
    key = replace(KEY, device="Intel(R) Xeon(R), x86_64", threads=2)
    name = "tiny_Intel-R-Xeon-R-x86-64_onnxruntime-1.0_2threads_batch1_fp32_64x48.json"
    assert default_file(tiny_space, key) == Path("latency") / name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 7}, "version: expected 2, got 7"),
        ({"key": {}}, r"key\.device: expected a value, got none"),
        ({"more": 1}, "one of the keys .* got 'more'"),
    ],
)
def test_a_broken_table_is_one_line(
    table_file: Path, change: dict[str, object], complaint: str
) -> None:
    import json

    document = copy.deepcopy(json.loads(table_file.read_text()))
    table_file.write_text(json.dumps({**document, **change}))
    with pytest.raises(ValueError, match=complaint):
        read_table(table_file)


def test_every_layer_of_a_plan_can_stand_alone(space: SearchSpace) -> None:
    import torch

    for layer in plan(space.max_arch()):
        block = profile.Block(layer).eval()
        fill_for_timing(block)
        with torch.no_grad():
            out = block(torch.zeros(1, layer.in_channels, *layer.in_hw))
        assert out.isfinite().all()
        if layer.kind is HeatmapConv:  # which hands over all it makes in a network too
            assert out.shape == (1, space.num_keypoints, *layer.in_hw)
        else:
            assert out.shape[2:] == (1, 1)


def test_one_network_alone_is_no_profile() -> None:
    with refused("num_archs", "from 2", "1"):
        Profile(num_archs=1)
