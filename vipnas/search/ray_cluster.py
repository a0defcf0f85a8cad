"""Join or start a Ray cluster. The only file that imports Ray."""

from __future__ import annotations

import importlib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vipnas.errors import UserError, shown

# Ray itself waits for minutes where nothing, or something else, listens.
SECONDS_TO_CONNECT = 5.0
# So does a gRPC server that is not Ray: about a second for each of 20 tries, with a line each.
TRIES = "5"
ADDRESS = re.compile(r"(?P<client>ray://)?\[?(?P<host>[^/\[\]\s]+?)\]?(:(?P<port>\d{1,5}))?/?")
CLIENT_PORT = 10001  # Ray's default for ray://
# What a client of HTTP/2, and so of gRPC, sends first, and the type of the frame that answers.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HTTP2_SETTINGS = 4


@dataclass(frozen=True)
class RaySettings:
    """Number and size of the workers.

    Attributes:
        num_workers: Number of workers.
        gpus_per_worker: GPUs per worker; a fraction lets several workers share a GPU.
        threads: CPU cores per worker.
        address: Address of a cluster, "auto" for the one on this machine, None to start one.
        seconds_limit: Time limit for one architecture; None waits for ever.
    """

    num_workers: int
    gpus_per_worker: float = 0.0
    threads: int = 1
    address: str | None = None
    seconds_limit: float | None = None

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.threads < 1 or not self.gpus_per_worker >= 0:
            raise UserError(
                "workers",
                "at least 1 worker with at least 1 thread and 0 GPUs",
                f"{self.num_workers} with {self.threads} and {self.gpus_per_worker:g}",
            )


def check_address(address: str | None) -> None:
    """Check the address of a cluster.

    Args:
        address: As in `RaySettings`. With "auto", Ray joins the cluster of the variable
            `RAY_ADDRESS`, if it is set.

    Raises:
        UserError: It is no address, or no gRPC server listens there.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address in ("auto", "local", None):
        return
    found = ADDRESS.fullmatch(address)
    if found is None or not (found["port"] or found["client"]):
        raise UserError("--ray-address", "auto, HOST:PORT or ray://HOST:PORT", shown(address))
    host, port = found["host"], int(found["port"] or CLIENT_PORT)
    try:
        with socket.create_connection((host, port), timeout=SECONDS_TO_CONNECT) as server:
            server.sendall(HTTP2_PREFACE)
            answer = server.recv(9)
        # With TLS the answer is encrypted.
        if os.environ.get("RAY_USE_TLS", "0") == "0" and answer[3:4] != bytes((HTTP2_SETTINGS,)):
            raise ConnectionError("something that is not Ray")
    except (OSError, OverflowError, UnicodeError) as error:
        hint = "`ray status` prints the address of a running one"
        place, expected = f"--ray-address {address}", "a cluster that listens"
        raise UserError(place, expected, str(error), hint) from None


def start_ray(settings: RaySettings) -> bool:
    """Join the cluster or start Ray on this machine; return False if this process has done so."""
    if settings.address:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", TRIES)
    ray = import_ray()
    if ray.is_initialized():
        return False
    check_address(settings.address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's default of 15 starves the workers beside any busy process.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # A cluster has its own number of cores.
    own = {"num_cpus": settings.num_workers * settings.threads, "include_dashboard": False}
    try:
        ray.init(
            settings.address or "local",
            log_to_driver=False,
            configure_logging=False,
            **({} if settings.address else own),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"--ray-address {settings.address}" if settings.address else "Ray on this machine"
        raise UserError(where, "a connection", "an error", str(error)) from None
    try:
        _check_room(settings, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    except UserError:
        ray.shutdown()
        raise
    return True


def _check_room(settings: RaySettings, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise UserError if a worker fits on no machine: it would wait for ever."""
    needed = {"CPU": float(settings.threads), "GPU": settings.gpus_per_worker}
    if any(all(node.get(kind, 0.0) >= n for kind, n in needed.items()) for node in nodes):
        return
    found = ", ".join(
        f"{node.get('CPU', 0):g} cores and {node.get('GPU', 0):g} GPUs" for node in nodes
    )
    expected = f"{needed['CPU']:g} cores and {needed['GPU']:g} GPUs for each worker"
    raise UserError("--gpus-per-worker", f"a machine with {expected}", found or "none")


def import_ray(part: str = "ray") -> Any:
    """Import Ray or one of its modules; only needed with --workers."""
    try:
        return importlib.import_module(part)
    except ImportError:
        hint = "pip install 'vipnas[cluster]'"
        raise UserError("--workers", "Ray to be installed", "no module ray", hint) from None
