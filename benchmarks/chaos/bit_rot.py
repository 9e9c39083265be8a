"""Flip one bit anywhere in a finished result: `verify` names the file, and the block if it is one.

    python benchmarks/chaos/bit_rot.py [--flips 1000] [--seed 0]

Half of the flips choose a file evenly, so that receipts and metadata get their share; half choose
by size, as real rot does.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from pathlib import Path

from desk import CASES, flip_bit, opened, receipt_of, show

import tilseg
from tilseg.errors import DamageError


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--flips", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place, opened(Path(place)) as commands:
        rows = []
        for number, case in enumerate(CASES):
            result = commands.folder / f"whole{number}{case.suffix}"
            flips = asked.flips // len(CASES) + (number < asked.flips % len(CASES))
            rows.append((case.name, *_rot(result, flips, rng)))
    heads = ("output", "flips", "named", "of which blocks", "in the receipt", "not named")
    total = ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))
    show("Bit rot", heads, [*rows, total])
    assert not total[-1]


def _rot(result: Path, flips: int, rng: random.Random) -> tuple[int, ...]:
    receipt = receipt_of(result)
    inside = [path for path in sorted(result.rglob("*")) if path.is_file()]
    files = [path for path in inside if path != receipt] if result.is_dir() else [result]
    files.append(receipt)
    sizes = [path.stat().st_size for path in files]
    found: Counter[str] = Counter()
    for flip in range(flips):
        path = rng.choice(files) if flip % 2 else rng.choices(files, sizes)[0]
        whole = path.read_bytes()
        flip_bit(path, rng)
        kind = _verdict(result, path, receipt)
        found[kind] += 1
        if kind == "missed":
            print(f"not named: {path}")
        path.write_bytes(whole)
    assert tilseg.verify(result) == []
    named = found["file"] + found["block"] + found["receipt"]
    return flips, named, found["block"], found["receipt"], found["missed"]


def _verdict(result: Path, path: Path, receipt: Path) -> str:
    try:
        damage = tilseg.verify(result)
    except DamageError:
        return "receipt" if path == receipt else "missed"
    name = str(path.relative_to(result)) if result.is_dir() else result.name
    if len(damage) != 1 or not damage[0].path.endswith(name if name != result.name else ""):
        return "missed"
    is_block = "/0/c/" in str(path) and "mask.zarr" in damage[0].path
    if is_block:
        return "block" if "(block " in damage[0].what else "missed"
    return "file"


if __name__ == "__main__":
    main()
