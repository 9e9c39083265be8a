"""What a batch costs beside its network, how fast it skips, and how machines share a folder.

    python benchmarks/batch.py speed|skip|share [--work DIR] [--megapixels 24] [--images 1000]

speed: eight images; the time of the command over the sum of their prediction times, and over that of
    eight commands. skip: small images, a few and more of them for the memory, then as many as are asked for,
    most of which are there. share: two machines, as Linux namespaces with host names, networks and boot
    ids of their own (as root), take the images of one folder; every one must be taken once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from common import big_image, model_file, show
from memory import _MEASURED

from tilseg.batches.record import Records
from tilseg.durable import seal, unseal

_TILSEG = [sys.executable, "-c", _MEASURED]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(*arguments: object) -> tuple[float, int, str]:
    """Seconds, peak bytes and stderr of a command that must succeed."""
    began = time.perf_counter()
    done = subprocess.run(
        [*_TILSEG, *map(str, arguments)], check=False, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, int(re.findall(r"^PEAK (\d+)", done.stderr, re.M)[-1]), done.stderr


def speed(work: Path, megapixels: int) -> None:
    side = int((megapixels * 1e6) ** 0.5)
    model = model_file(work / "m.safetensors", width=16)
    images = [big_image(work / f"{k}.tif", side + 97 * k, side - 89 * k) for k in range(8)]
    whole, peak, _ = _run("run", *images, "-o", work / "all", "--model", model)
    summaries = [json.loads(path.read_bytes()) for path in (work / "all").glob("*/summary.json")]
    predict = sum(one["seconds"]["predict"] for one in summaries)
    finish = sum(one["seconds"]["finish"] for one in summaries)
    apart = [
        _run("run", image, "-o", work / f"{image.stem}.tilseg", "--model", model)
        for image in images
    ]
    alone = sum(seconds for seconds, _, _ in apart)
    rows = [
        ("the command", f"{whole:.1f} s", f"{peak / 1e6:.0f} MB"),
        ("its predictions", f"{predict:.1f} s", ""),
        ("its publications", f"{finish:.1f} s", ""),
        ("eight commands", f"{alone:.1f} s", f"{max(one[1] for one in apart) / 1e6:.0f} MB"),
        ("command / predictions", f"{whole / predict:.3f}", ""),
    ]
    show(f"Eight images of {megapixels} megapixels", ("", "time", "peak"), rows)


def skip(work: Path, count: int) -> None:
    model = model_file(work / "m.safetensors", width=4, depth=2)
    (work / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (97, 83, 3), np.uint8)
    tifffile.imwrite(work / "in" / "0000.tif", pixels, photometric="rgb")
    for k in range(1, count):
        os.link(work / "in" / "0000.tif", work / "in" / f"{k:04}.tif")
    order = ("--model", model, "-o", f"{work}/out/")
    rows = []
    for name, pattern in (("4", "000[0-3].tif"), ("40", "00[0-3]?.tif"), (f"{count:,}", "*.tif")):
        if pattern == "*.tif":
            _copy_results(work, range(40, count))
        before = _cpu()
        seconds, peak, said = _run("run", work / "in" / pattern, *order)
        cpu = _cpu() - before
        computed = len(re.findall(r" complete in ", said))
        rows.append((name, computed, f"{seconds:.1f} s", f"{cpu:.1f} s", f"{peak / 1e6:.0f} MB"))
    show("Small images", ("images", "of them segmented", "time", "CPU time", "peak"), rows)


def _copy_results(work: Path, numbers: range) -> None:
    """What segmenting these images would have made: the results of equal ones, each with its own
    receipt."""
    records = Records(work / "out")
    first = records.of(work / "out" / "0000.tilseg")
    assert first is not None
    receipt = unseal((work / "out" / "0000.tilseg" / "run.json").read_bytes())
    for k in numbers:
        image, output = work / "in" / f"{k:04}.tif", work / "out" / f"{k:04}.tilseg"
        shutil.copytree(work / "out" / "0000.tilseg", output)
        receipt["fingerprint"]["input"]["path"] = str(image.resolve())
        receipt["plan"]["source"] = str(image)
        written = seal(receipt).encode()
        (output / "run.json").write_bytes(written)
        digest = hashlib.sha256(written).hexdigest()
        records.write(replace(first, image=str(image), output=output.name, receipt=digest))


def share(work: Path) -> None:
    model = model_file(work / "m.safetensors", width=8, depth=3)
    images = [big_image(work / f"{k}.tif", 1500 + 97 * k, 1300 + 89 * k) for k in range(10)]
    order = [*_TILSEG, "run", *map(str, images), "-o", str(work / "out"), "--model", str(model)]
    machines = [
        subprocess.Popen(
            _elsewhere(work, f"node{k}", order),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in (1, 2)
    ]
    said = [machine.communicate()[1] for machine in machines]
    codes = [machine.returncode for machine in machines]
    if any(codes):
        raise SystemExit("\n".join(said))
    taken = [re.findall(r": (\S+) complete in ", words) for words in said]
    times = Counter(name for names in taken for name in names)
    rows = [(f"node{k}", len(names)) for k, names in enumerate(taken, 1)]
    rows.append(("taken once", sum(count == 1 for count in times.values())))
    rows.append(("taken twice", sum(count > 1 for count in times.values())))
    show("Ten images, two machines", ("", "images"), rows)


def _elsewhere(work: Path, host: str, order: list[str]) -> list[str]:
    """A command on what it takes for another machine."""
    boot = work / f"{host}.boot"
    boot.write_text(f"{host}\n")
    script = f'hostname {host} && mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"'
    return ["unshare", "--uts", "--net", "--mount", "sh", "-c", script, "sh", *order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "skip", "share"])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--megapixels", type=int, default=24)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=options.work))
    os.environ["COLUMNS"] = "200"
    try:
        if options.what == "speed":
            speed(work, options.megapixels)
        elif options.what == "skip":
            skip(work, options.images)
        else:
            share(work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
