"""README's promises that running its examples does not show, and the pipelines it points to."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import imagecodecs
import pytest

from tilseg.card import read_card
from tilseg.cli.main import main
from tilseg.model import bundled_models

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NUCLEI = ROOT / "pipelines" / "nuclei"
CLUSTER = ROOT / "pipelines" / "cluster"


def test_its_two_commands_are_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    assert "$ make demo\n$ make test\n" in README
    demo = re.search(r"^demo:.*\n\t(.*)$", makefile, flags=re.M)
    test = re.search(r"^test:.*\n\t(.*)$", makefile, flags=re.M)
    assert demo is not None
    assert test is not None
    assert "tilseg run sample_data/slide.tif" in demo[1]
    assert "pytest" in test[1]


def test_its_python_version_is_the_package_s():
    wanted = importlib.metadata.metadata("tilseg")["Requires-Python"].removeprefix(">=")
    assert f"Python {wanted} or later" in README


def test_its_picture_is_small_and_real():
    content = (ROOT / "docs" / "images" / "slide.png").read_bytes()
    assert len(content) < 300_000
    rows, cols = imagecodecs.png_decode(content).shape[:2]
    assert cols > rows > 200


def test_the_pipeline_states_the_scores_that_are_in_the_card():
    page = (NUCLEI / "README.md").read_text()
    found = read_card(bundled_models()["nuclei"]).metrics["nuclei"]
    rows = re.findall(r"^\| ([a-z-]+)[^|]*((?: \| [0-9.]+)+) \|$", page, flags=re.M)
    stated = {kind.replace("-", ""): figures.split(" | ")[1:] for kind, figures in rows}
    for kind, each in found.items():
        ratios = (each[name] for name in ("dice", "dice_mean_of_images", "f1", "aji"))
        counts = [str(each["images"]), str(each["nuclei"])]
        assert stated[kind] == counts + [f"{ratio:.3f}" for ratio in ratios]


def test_the_job_file_for_water_runs(tmp_path, monkeypatch, sample_data, capsys):
    monkeypatch.chdir(tmp_path)
    config = ROOT / "pipelines" / "water" / "job.toml"
    with pytest.raises(SystemExit) as ended:
        main(["run", str(sample_data / "scene.tif"), "--config", str(config)])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert "water" in printed.out
    assert "takes another" not in printed.err


def test_the_pipeline_for_water_states_the_scores_that_are_in_the_card():
    page = (ROOT / "pipelines" / "water" / "README.md").read_text()
    groups = read_card(bundled_models()["water"]).metrics["groups"]
    stated = dict(re.findall(r"^\| held-out parts, (\d+) \|.*\| (0\.\d+) \|$", page, flags=re.M))
    assert stated == {year: f"{scores['dice']:.3f}" for year, scores in groups.items()}


def test_job_file_runs(tmp_path, monkeypatch, sample_data, capsys):
    monkeypatch.chdir(tmp_path)
    config = NUCLEI / "job.toml"
    assert tomllib.loads(config.read_text())["model"] == "nuclei"
    with pytest.raises(SystemExit) as ended:
        main(["run", str(sample_data / "slide.tif"), "--config", str(config), "--level", "2"])
    assert ended.value.code == 0, capsys.readouterr().err
    assert "nucleus" in capsys.readouterr().out
    assert (tmp_path / "slide.tilseg" / "mask.tif").is_file()


@pytest.mark.parametrize(
    ("code", "requeued"),
    [(0, False), (3, False), (5, False), (10, False), (75, True), (138, True), (143, False)],
)
def test_cluster_script_goes_back_into_the_queue_when_it_was_stopped(tmp_path, code, requeued):
    """The commands stand in for themselves: what they are called with is what counts."""
    calls = tmp_path / "calls"
    for name, ends_with in (("tilseg", code), ("scontrol", 0)):
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\nexit {ends_with}\n')
        command.chmod(0o755)
    done = subprocess.run(
        ["bash", CLUSTER / "preemptible.sbatch", "a slide.svs", "-o", "out.tilseg"],
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "20",
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert done.stderr == ""
    run, *after = calls.read_text().splitlines()
    assert run == "tilseg run a slide.svs -o out.tilseg --shard 3/20"
    assert after == (["scontrol requeue 7"] if requeued else [])


@pytest.mark.parametrize("name", ["single", "preemptible"])
def test_cluster_scripts_ask_slurm_before_their_first_command(name):
    lines = (CLUSTER / f"{name}.sbatch").read_text().splitlines()
    asked = {line.split()[1].split("=")[0] for line in lines if line.startswith("#SBATCH")}
    assert {"--time", "--mem", "--cpus-per-task"} <= asked
    # SLURM looks for these before the first command only.
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(i < first_command for i, line in enumerate(lines) if line.startswith("#SBATCH"))
