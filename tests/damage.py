"""What crashes, disks and people do to files, on purpose and by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path


def flip_bit(path: Path, rng: random.Random) -> None:
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    """Leave the beginning of a file, or nothing."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def zero_tail(path: Path, rng: random.Random) -> None:
    """What a power cut makes of a file whose size was on the disk, but not its pages."""
    content = path.read_bytes()
    keep = rng.randrange(len(content))
    path.write_bytes(content[:keep] + bytes(len(content) - keep))


def damage(partial: Path, rng: random.Random) -> str:
    """Damage an unfinished run in one way that it must survive; returns what was done."""
    kinds: list[tuple[str, Callable[[Path, random.Random], str]]] = [
        ("shard", _damage_shard),
        ("shard", _damage_shard),
        ("journal", _damage_journal),
        ("deleted", _delete_shard),
        ("stray", _add_strays),
        ("metadata", _tear_metadata),
    ]
    return rng.choice(kinds)[1](partial, rng)


def shards(partial: Path) -> list[Path]:
    """The files of blocks, wherever the store of this run is."""
    found = partial.glob("**/mask.zarr/0/c/*/*")
    return sorted(path for path in found if path.is_file() and path.name.isdigit())


def _damage_shard(partial: Path, rng: random.Random) -> str:
    how = rng.choice([flip_bit, truncate, zero_tail])
    found = [path for path in shards(partial) if path.stat().st_size]
    for path in rng.sample(found, min(3, len(found))):
        how(path, rng)
    return how.__name__ if found else "nothing"


def _delete_shard(partial: Path, rng: random.Random) -> str:
    found = shards(partial)
    for path in rng.sample(found, min(3, len(found))):
        path.unlink()
    return "deleted" if found else "nothing"


def _damage_journal(partial: Path, rng: random.Random) -> str:
    journal = partial / "journal-0.jsonl"
    if not journal.exists() or not journal.stat().st_size:
        return "nothing"
    rng.choice([flip_bit, truncate, zero_tail])(journal, rng)
    return "journal"


def _add_strays(partial: Path, rng: random.Random) -> str:
    folders = [path for path in (partial, *partial.glob("result.*/**/*")) if path.is_dir()]
    for number, name in enumerate(("mask.tif", "notes.txt", f".{rng.random()}.partial", "c", "0")):
        path = rng.choice(folders) / name
        if not path.exists():
            path.write_bytes(rng.randbytes(100 * number))
    return "stray"


def _tear_metadata(partial: Path, rng: random.Random) -> str:
    found = sorted(path for path in partial.glob("**/zarr.json") if path.stat().st_size)
    for path in found:
        truncate(path, rng)
    return "metadata" if found else "nothing"
