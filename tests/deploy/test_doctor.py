"""What `vipnas doctor` says of an installation and its machine."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from vipnas.cli.main import main
from vipnas.deploy import doctor
from vipnas.deploy.doctor import MISSING, required_packages


def test_what_is_missing_or_too_old_is_named_with_the_command_that_brings_it() -> None:
    own, one, three, two = required_packages(
        [
            "numpy>=1.0",
            'no-such-package>=2; extra == "one"',
            'numpy>=999; extra == "two"',
            'numpy; extra == "three"',
            'numpy; sys_platform == "nowhere" and extra == "three"',
        ]
    )
    numpy = version("numpy")
    assert (own.extra, own.packages, own.command) == ("", {"numpy": numpy}, "")
    assert one.packages == {"no-such-package": MISSING}
    assert one.command == "pip install 'vipnas[one]'"
    assert two.packages == {"numpy": f"{numpy}, >=999 required"}
    assert not two.complete and three.complete


def test_memory_is_read_as_linux_writes_it(tmp_path: Path) -> None:
    information = tmp_path / "meminfo"
    information.write_text("MemTotal: 2097152 kB\nMemFree: 1 kB\nMemAvailable: 1048576 kB\n")
    assert doctor._memory_gib(information) == {"in all": 2.0, "free": 1.0}
    assert doctor._memory_gib(tmp_path / "none") == {}


def test_the_command_prints_text_or_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_why_no_compiler", lambda: "missing: no C++ compiler")
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy", 'no-such; extra == "more"'])
    assert main(["doctor"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch.compile"] == "missing: no C++ compiler"
    assert lines["extra more"] == "no-such missing (pip install 'vipnas[more]')"
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1 <= found["processors"]["usable"] <= found["processors"]["count"]

    monkeypatch.setattr(doctor, "requires", lambda _: ["no-such>=2"])
    assert main(["doctor"]) == 1
    assert "no-such missing (pip install 'vipnas')" in capsys.readouterr().err
