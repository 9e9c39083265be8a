"""Jobs on a real SLURM end in the bytes of one process, whatever befalls them."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import psutil
import tifffile
from slurm_site import NODES, PIPELINES, RUN, SMALL, Site, until
from tiny import noise, tilseg, tree
from undisturbed import blocks

PREEMPTIBLE = PIPELINES / "preemptible.sbatch"


def held(site: Site, desk: Path, output: str) -> tuple[str, psutil.Process]:
    """Where a job runs, and its process, suspended in the middle of the run."""
    until(lambda: blocks(desk, output) > 1, f"blocks of {output}")
    ((node, running),) = [(node, one) for node in NODES for one in site.running(node)]
    running.suspend()
    return node, running


def lives(desk: Path, output: str) -> int:
    """How often the job that owns an output was put back into the queue."""
    try:
        return int(json.loads((desk / f".{output}.lock").read_text())["restart"])
    except (FileNotFoundError, ValueError):
        return 0


def same(desk: Path, output: str) -> bool:
    return tree(desk / output) == tree(desk / "here.tilseg")


def test_a_single_job(site, desk):
    job = site.submit(
        *SMALL, PIPELINES / "single.sbatch", "image.tif", *RUN, "-o", "single.tilseg", cwd=desk
    )
    site.end(job)
    assert same(desk, "single.tilseg"), site.log(job)


def test_an_array_of_four_parts_of_one_image(site, desk):
    order = ("image.tif", *RUN, "-o", "array.tilseg")
    job = site.submit(*SMALL, "--array=1-4", PREEMPTIBLE, *order, cwd=desk)
    site.end(job)
    assert same(desk, "array.tilseg"), site.log(job)
    # Whoever came later found it there.
    logs = [(desk / f"slurm-{job}_{part}.out").read_text() for part in range(1, 5)]
    table = re.compile(r"^table +array\.tilseg", re.M)
    published = [text for text in logs if table.search(text) and "already" not in text]
    assert len(published) == 1, logs
    receipt = json.loads((desk / "array.tilseg/run.json").read_text())
    assert receipt["summary"]["blocks"]["total"] == 12


def test_a_batch_of_eight_images_over_an_array(site, desk):
    (desk / "slides").mkdir()
    for number in range(8):
        pixels = noise(101 + number, 89, seed=number)
        tifffile.imwrite(desk / f"slides/s{number}.tif", pixels, photometric="rgb")
    tilseg("run", "slides/*.tif", *RUN, "-o", "alone/", cwd=desk, check=True)
    order = ("slides/*.tif", *RUN, "-o", "results/")
    job = site.submit(*SMALL, "--array=1-2", PREEMPTIBLE, *order, cwd=desk)
    site.end(job)
    names = {f"s{number}.tilseg" for number in range(8)}
    assert {path.name for path in (desk / "results").glob("*.tilseg")} == names, site.log(job)
    for name in names:
        assert tree(desk / "results" / name) == tree(desk / "alone" / name)


def test_a_job_is_told_before_its_limit_and_continues_after_it(site, desk):
    """The signal comes from SLURM's own clock; the run is kept in its middle until then."""
    output = "limited.tilseg"
    # It comes half a minute to a minute after the job begins.
    limits = ("--time=3", "--signal=B:USR1@120")
    job = site.submit(*SMALL, *limits, PREEMPTIBLE, "image.tif", *RUN, "-o", output, cwd=desk)
    _, running = held(site, desk, output)
    until(lambda: signal.SIGUSR1 in pending(running), "USR1")
    done = blocks(desk, output)
    running.resume()
    until(lambda: not running.is_running(), "the end of the run")
    assert blocks(desk, output) >= done
    site.end(job)
    assert "stopped after " in site.log(job)
    assert "resuming: " in site.log(job)
    assert same(desk, output), site.log(job)


def pending(process: psutil.Process) -> set[int]:
    """Signals that wait for a process that is suspended, after proc(5)."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (mask,) = [int(line.split()[1], 16) for line in status if line.startswith("ShdPnd:")]
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_a_job_moves_on_when_its_node_dies(nodes, desk):
    output = "moved.tilseg"
    job = nodes.submit(*SMALL, PREEMPTIBLE, "image.tif", *RUN, "-o", output, cwd=desk)
    node, _ = held(nodes, desk, output)
    nodes.kill_node(node)
    assert not (desk / output).exists()
    nodes.end(job)
    assert "resuming: " in nodes.log(job)
    assert same(desk, output), nodes.log(job)


def test_two_copies_of_one_job_publish_once(nodes, desk):
    """Only slurmd dies: SLURM starts the job again while its first life is still at work."""
    output = "twice.tilseg"
    job = nodes.submit(*SMALL, PREEMPTIBLE, "image.tif", *RUN, "-o", output, cwd=desk)
    node, first = held(nodes, desk, output)
    nodes.kill_daemon(node)
    until(lambda: lives(desk, output) == 1, "the second copy")
    assert first.is_running()
    first.resume()
    until(lambda: not nodes.running(node), "the end of the first life")
    nodes.end(job)
    assert "error[E-LOCK" in nodes.log(job)
    receipt = json.loads((desk / output / "run.json").read_text())
    assert receipt["status"] == "complete"
    assert same(desk, output), nodes.log(job)
    assert tilseg("verify", output, cwd=desk).returncode == 0
    assert not list(desk.glob(f".{output}.*"))
