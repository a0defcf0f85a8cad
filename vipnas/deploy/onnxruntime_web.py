"""The files of onnxruntime-web, which runs ONNX models in browsers.

They are fetched once from the npm registry, by version and hash, and kept in a cache.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vipnas.errors import UserError
from vipnas.files import write_atomically

VERSION = "1.30.0"
# `dist.integrity` of the registry: `npm view onnxruntime-web@VERSION dist.integrity`.
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# The module for CPUs, and the WebAssembly that it loads.
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
# Without npm's own settings.
REGISTRY = "https://registry.npmjs.org"
TIMEOUT_SECONDS = 60
HINT = "without a network: --onnxruntime-web DIR, the npm package onnxruntime-web unpacked"


def onnxruntime_web(
    folder: Path | None = None, say: Callable[[str], object] = lambda text: None
) -> dict[str, bytes]:
    """Return the contents of `FILES` by name.

    Args:
        folder: The npm package, or its `dist`. None takes the cache, which is filled from the
            registry of npm's settings first.
        say: Told before a download.

    Raises:
        UserError: The folder lacks a file, the registry cannot be reached, or the package is not
            the one whose hash is known.
    """
    found = cache_folder() if folder is None else _dist(folder)
    if folder is None and not all((found / name).is_file() for name in FILES):
        url = f"{registry()}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
        say(f"{url} (33 MB, once)")
        _fetch(url, found)
    return {name: (found / name).read_bytes() for name in FILES}


def cache_folder() -> Path:
    """Return the folder of the files of this version, which may not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vipnas" / f"onnxruntime-web-{VERSION}"


def registry() -> str:
    """Return the address of the npm registry, by npm's settings."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    if npm := shutil.which("npm"):
        command = [npm, "config", "get", "registry"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if answer.startswith("http"):
            return answer.rstrip("/")
    return REGISTRY


def _dist(folder: Path) -> Path:
    """Return the folder of the files in an unpacked package."""
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if all((place / name).is_file() for name in FILES):
            return place
    found = "a folder without them" if folder.is_dir() else "no such folder"
    hint = "the npm package onnxruntime-web, unpacked"
    raise UserError(f"--onnxruntime-web {folder}", " and ".join(FILES), found, hint)


def _fetch(url: str, folder: Path) -> None:
    """Download the package, check it as a whole, and keep its files."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            package = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error))
        raise UserError(url, f"onnxruntime-web {VERSION}", reason, HINT) from error
    found = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if found != SHA512:
        raise UserError(url, f"sha512 {SHA512[:16]}...", f"{found[:16]}...", HINT)
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for name in FILES:
            content = archive.extractfile(f"package/dist/{name}")
            assert content is not None
            write_atomically(folder / name, content.read())
