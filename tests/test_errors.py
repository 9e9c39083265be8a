"""The catalogue against the code: every error has its words, and all words have their error."""

from __future__ import annotations

import ast
import pickle
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tilseg import errors
from tilseg.errors import CATALOGUE, InputError, TilsegError, UsageError, nearest, printable

PACKAGE = Path(errors.__file__).parent


@dataclass(frozen=True)
class Raise:
    """One call that makes an error: where, of which class, with which facts (None: a `**` hides them)."""

    place: str
    id: str
    kind: str
    facts: frozenset[str] | None


def _raises() -> Iterator[Raise]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and str(first.value).startswith("E-"):
                    names = [keyword.arg for keyword in node.keywords]
                    facts = None if None in names else frozenset(filter(None, names))
                    place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                    yield Raise(place, str(first.value), node.func.id, facts)


RAISES = list(_raises())


def _placeholders(words: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(words) if name}


@pytest.mark.parametrize("each", RAISES, ids=lambda each: f"{each.place} {each.id}")
def test_what_is_raised_is_in_the_catalogue(each):
    entry = CATALOGUE[each.id]
    assert each.kind == entry.kind.__name__
    if each.facts is not None:
        assert each.facts == _placeholders(entry.says) | _placeholders(entry.do)


def test_what_is_in_the_catalogue_is_raised():
    assert set(CATALOGUE) == {each.id for each in RAISES}


def test_ids_are_never_put_together():
    # A literal is what a person can search for, and what this file can find.
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"f[\"']E-[A-Z-]*\{", path.read_text()), path


@pytest.mark.parametrize("id", CATALOGUE)
def test_an_error_is_one_line_that_says_what_to_do(id):
    entry = CATALOGUE[id]
    assert re.fullmatch(r"E-[A-Z]+(-[A-Z]+)*", id)
    for words in (entry.says, entry.do):
        assert words
        assert words == words.strip(" .;")
    hostile = "two\nlines \x1b[31m and \udcff; " + "long " * 10_000
    facts = dict.fromkeys(_placeholders(entry.says) | _placeholders(entry.do), hostile)
    error = entry.kind(id, **facts)
    assert error.message.isprintable()
    assert len(error.message) < 5000
    assert error.message.endswith(error.advice)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.id, str(again)) == (type(error), id, error.message)


def test_the_tree_is_as_it_is_drawn():
    drawn = re.findall(r"(\w+) +exit (\d+) +(?:([A-Z]\w+Error) )?", errors.__doc__)
    kinds = {"TilsegError": TilsegError} | {k.__name__: k for k in TilsegError.__subclasses__()}
    assert {name for name, _, _ in drawn} == set(kinds)
    assert len({code for _, code, _ in drawn}) == len(drawn)
    for name, code, builtin in drawn:
        assert kinds[name].exit_code == int(code)
        assert not builtin or builtin in [base.__name__ for base in kinds[name].__mro__]


def test_a_class_takes_only_its_own_ids():
    with pytest.raises(AssertionError, match="E-INPUT-EMPTY is no UsageError"):
        UsageError("E-INPUT-EMPTY", path="a.tif")
    assert (
        str(InputError("E-INPUT-EMPTY", path="a.tif")) == "a.tif: has 0 bytes; copy the file again"
    )


def test_names_from_files_do_not_command_a_terminal():
    assert printable("a\x1b]0;title\x07b") == "a\\x1b]0;title\\x07b"
    assert printable(" µm² \n tab\there ") == "µm² tab here"


def test_the_nearest_known_name():
    assert nearest("tilt", ["tile", "model"]) == " (did you mean 'tile'?)"
    assert nearest("xyz", ["tile", "model"]) == ""
