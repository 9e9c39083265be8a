"""Parts of a job for the tasks of an array: which blocks of an image, or images of a batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from tilseg.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number`, counted from 1, of `count`.

    Raises UsageError E-OPTION for a part that there is not.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise _refused(f"{self.number}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """ "3/20" as part 3 of 20."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise _refused(text)
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """As the names of its files have it."""
        return f"{self.number}of{self.count}"

    def part(self, total: int) -> range:
        """Its numbers of 0 to `total` - 1: one run of neighbours, as long as the others' to one."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


def _refused(text: str) -> UsageError:
    return UsageError(
        "E-OPTION", option="--shard", value=text, allowed="K/N, such as 1/20 to 20/20"
    )
