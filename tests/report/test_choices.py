"""Choices, their importance, and the trials as Optuna studies, from trials made by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_fixture import NUM_TRIALS, write_run
from search_fixture import trial

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.arch.image import Arch
from vipnas.arch.io import arch_from_json
from vipnas.cli.main import main
from vipnas.report.choices import Choices
from vipnas.report.importance import MIN_SCORES, importance_of
from vipnas.space.image import SearchSpace


def test_choices_are_what_differs(tiny_space: SearchSpace) -> None:
    small = tiny_space.min_arch()
    stage = replace(small.stages[1], kernel_size=7, attention=True)
    other = replace(small, stages=(small.stages[0], stage))
    found = Choices.of([other, small, other])
    assert found.names == ("stage 2 kernel size", "stage 2 attention")
    assert found.options == ((3, 7), (False, True))
    assert found.genes_NC.tolist() == [[1, 1], [0, 0], [1, 1]]
    clips = [VideoArch(small, (FollowUp(small, fusion),)) for fusion in (Fusion(2, "add"), None)]
    fused = Choices.of(clips)
    assert (fused.names, fused.options) == (("frame 1 fusion",), (("add at 2", "none"),))
    warped = Choices.of([*clips, VideoArch(small, (None,))])
    assert warped.options[warped.names.index("frame 1 fusion")] == ("add at 2", "none", "warp")
    depth = warped.names.index("frame 1 stage 1 depth")
    assert warped.options[depth] == (1, "warp") and warped.genes_NC[:, depth].tolist() == [0, 0, 1]
    assert Choices.of([small]).names == ()


def test_the_choice_that_makes_the_score_is_found(tiny_space: SearchSpace) -> None:
    def score(arch: Arch) -> float:
        return 0.3 + 0.2 * (arch.stages[1].kernel_size == 7) + 0.05 * arch.stages[0].attention

    rng = random.Random(0)
    archs = list(dict.fromkeys(tiny_space.sample(rng) for _ in range(60)))
    trials = [trial(number, arch, score(arch)) for number, arch in enumerate(archs)]
    failed = trial(99, tiny_space.max_arch(), None)
    found = importance_of([*trials, failed])
    assert found is not None
    effects = dict(zip(found.choices.names, found.effects, strict=True))
    first, second, *rest = sorted(effects, key=lambda name: -effects[name])
    assert (first, second) == ("stage 2 kernel size", "stage 1 attention")
    assert effects[first] == pytest.approx(0.2, abs=0.02)
    assert effects[second] == pytest.approx(0.05, abs=0.01)
    assert max(effects[name] for name in rest) < 0.01
    assert found.mean_error < 0.2 * found.guess_error and found.rank_correlation > 0.8
    assert found.guess_error == pytest.approx(
        np.abs(found.scores_N - found.scores_N.mean()).mean(), rel=0.1
    )


def test_few_or_equal_scores_have_no_importance(tiny_space: SearchSpace) -> None:
    rng = random.Random(0)
    archs = [tiny_space.sample(rng) for _ in range(2 * MIN_SCORES)]
    assert importance_of([trial(0, arch) for arch in archs]) is None
    assert importance_of([trial(n, arch, n / 100) for n, arch in enumerate(archs[:5])]) is None


@pytest.mark.slow
def test_trials_become_optuna_studies(
    tmp_path: Path, tiny_space: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    optuna = pytest.importorskip("optuna")
    run, study_file = write_run(tmp_path / "mine", tiny_space), tmp_path / "study.db"
    assert main(["report", str(run), "--optuna", str(study_file)]) == 0
    assert "studies mine/evolution, mine/random" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.partial"))
    study = optuna.load_study(study_name="mine/evolution", storage=f"sqlite:///{study_file}")
    assert len(study.trials) == NUM_TRIALS
    assert [one.name for one in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    first = study.trials[0]
    assert first.values[1] == first.user_attrs["macs"]
    assert arch_from_json(first.user_attrs["arch"], "study") in tiny_space
    assert first.params["stage 2 kernel size"] in (3, 5, 7)
    assert main(["report", str(run), "--optuna", str(study_file)]) == 1
    assert f"{study_file}: expected a new file, got one that exists" in capsys.readouterr().err
