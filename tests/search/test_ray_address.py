"""A cluster that is not there, and workers that fit nowhere: one line at once. Needs no Ray."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from experiment_fixture import EXPERIMENT, write_experiment

from vipnas.cli.main import main
from vipnas.errors import UserError
from vipnas.search.ray_cluster import HTTP2_PREFACE, RaySettings, _check_room, check_address

Serve = Callable[[bytes], str]
SETTINGS_FRAME = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers once; gives its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def answer(content: bytes) -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(1024) == HTTP2_PREFACE
                connection.sendall(content)

        def start(content: bytes) -> str:
            threading.Thread(target=answer, args=(content,), daemon=True).start()
            return f"127.0.0.1:{server.getsockname()[1]}"

        yield start


def unused_address() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_where_nothing_listens_is_one_line_at_once() -> None:
    started = time.monotonic()
    for address in (unused_address(), f"ray://{unused_address()}", "[::1]:1", "127.0.0.1:99999"):
        with pytest.raises(ValueError, match="^--ray-address .*: expected a cluster that lis") as e:
            check_address(address)
        assert address in str(e.value) and "\n" not in str(e.value)
    assert time.monotonic() - started < 10


def test_what_is_no_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray waits for half a minute, prints a traceback, or starts a cluster of its own."""
    for address in ("", ":6379", "127.0.0.1", "127.0.0.1:abc", "http://127.0.0.1:8265", "a b:1"):
        with pytest.raises(UserError) as error:
            check_address(address)
        assert error.value.place == "--ray-address"
        assert repr(address) in str(error.value)
    with pytest.raises(ValueError, match="ray://nix.invalid: expected a cluster that listens"):
        check_address("ray://nix.invalid")
    monkeypatch.setenv("RAY_ADDRESS", unused_address())
    with pytest.raises(ValueError, match="expected a cluster that listens, got .*refused"):
        check_address("auto")


@pytest.mark.parametrize("gpus", [-1.0, math.nan])
def test_a_share_of_a_gpu_is_a_number(gpus: float) -> None:
    with pytest.raises(UserError, match="workers: expected at least 1 worker"):
        RaySettings(1, gpus)


def test_a_server_that_is_not_ray_is_found_out(serve: Serve) -> None:
    address = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ValueError, match=f"{address}: .* got something that is not Ray"):
        check_address(address)


def test_a_grpc_server_is_let_through_and_so_is_what_names_no_server(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_address(serve(SETTINGS_FRAME))
    for address in ("auto", "local", None):
        check_address(address)


def test_a_worker_must_fit_on_one_machine() -> None:
    nodes = [{"CPU": 2.0}, {"CPU": 8.0, "GPU": 1.0, "memory": 1e9}]
    _check_room(RaySettings(9, 0.5, threads=8), nodes)
    for settings in (RaySettings(1, 2.0), RaySettings(1, threads=9)):
        with pytest.raises(ValueError, match="got 2 cores and 0 GPUs, 8 cores and 1 GPUs$"):
            _check_room(settings, nodes)
    with pytest.raises(ValueError, match="for each worker, got none$"):
        _check_room(RaySettings(1), [])


@pytest.mark.parametrize("command", ["search", "run", "retrain"])
def test_commands_say_so_before_they_read_data(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = str(write_experiment(tmp_path, EXPERIMENT))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    options = [command, experiment, "--device", "cpu", "--workers", "1"]
    more = ["--front", "pareto.json"] if command == "retrain" else []
    address = unused_address()
    assert main([*options, *more, "--ray-address", address]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vipnas {command}: --ray-address {address}: expected a cluster")
    assert main([*options, *more, "--gpus-per-worker", "1"]) == 1
    assert capsys.readouterr().err == (
        f"vipnas {command}: --gpus-per-worker: expected at most 0, the GPUs of this machine,"
        " got 1\n"
    )
