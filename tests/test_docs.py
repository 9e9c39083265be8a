"""The documentation holds: its examples run, its references are what the code says, links lead on.

A block of console, python, toml or json is run, written or parsed; what its page shows as output
is compared. A comment above a block changes that:

    <!-- not run: why -->      a block that needs what a test has not
    <!-- run in: page.md -->   the same stands in that page, and is run there
    <!-- numbers vary -->      numbers are compared as such, not their values
    <!-- file: job.toml -->    the block is that file from here on
    <!-- output -->            what the python block before has printed
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click
import pytest

from tilseg import errors
from tilseg.card import Card
from tilseg.cli.main import cli, main
from tilseg.cli.sections import sections
from tilseg.errors import CATALOGUE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "pipelines").rglob("*.md")],
)
RUN = {"console", "python", "toml", "json"}
SHOWN = {"text"}
# Of programs that tests don't have: never run.
FOREIGN = {"r", "groovy"}
NOTES = {"not run", "run in", "numbers vary", "file", "output"}

_BLOCK = re.compile(
    r"(?P<notes>(?:^<!--.*?-->\n)*)^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
_NOTE = re.compile(r"<!-- (.*?) -->")
_COMPARE = doctest.OutputChecker()
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text and the comments above it."""

    kind: str
    text: str
    notes: tuple[str, ...]

    def note(self, name: str) -> str | None:
        """What follows `name:` in a comment; "" for a comment that is just the name."""
        for note in self.notes:
            if note == name or note.startswith(f"{name}:"):
                return note.removeprefix(name).lstrip(": ")
        return None


def blocks(page: Path) -> list[Block]:
    return [
        Block(found["kind"], found["text"], tuple(_NOTE.findall(found["notes"])))
        for found in _BLOCK.finditer(page.read_text())
    ]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_is_run_or_says_why_not(page):
    for block in blocks(page):
        assert block.kind in RUN | SHOWN | FOREIGN, f"what is ```{block.kind}?"
        assert block.kind not in FOREIGN or block.note("not run")
        assert block.note("not run") != "", "say why it is not run"
        for note in block.notes:
            assert note.split(":")[0] in NOTES, note
        if (other := block.note("run in")) is not None:
            parts = [f"$ {command}\n{shown}" for command, shown in _commands(block.text)]
            assert all(part in (ROOT / other).read_text() for part in parts or [block.text])


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=_name)
def test_examples_do_what_the_page_shows(page, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    session = Session()
    for block in blocks(page):
        if block.note("not run") is None and block.note("run in") is None:
            session.follow(block)


class Session:
    """A reader at a prompt, in a folder of their own."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {}
        self.printed = ""
        self.code = 0

    def follow(self, block: Block) -> None:
        file = block.note("file")
        if file is not None:
            Path(file).write_text(block.text)
        if block.kind == "console":
            self._console(block)
        elif block.kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block.text, "example", "exec"), self.names)
            self.printed = out.getvalue()
        elif block.kind == "toml":
            tomllib.loads(block.text)
        elif block.kind == "json":
            json.loads(block.text)
        elif block.note("output") is not None:
            _same(block, block.text, self.printed)

    def _console(self, block: Block) -> None:
        for command, expected in _commands(block.text):
            if command == "echo $?":
                found = f"{self.code}\n"
            else:
                self.code, out, err = _run(command)
                # A failure is something the reader is shown; progress is not.
                found = out + err if self.code else out
            _same(block, expected, found, command)


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block with the output under it."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def _run(command: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr. tilseg itself runs in this process, which saves seconds."""
    words = shlex.split(command)
    if words[0] != "tilseg" or set(words) & {">", "|", "&"}:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", command],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"PATH": path},
        )
        return done.returncode, done.stdout, done.stderr
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.raises(SystemExit) as ended,
    ):
        main(words[1:])
    code = ended.value.code
    assert isinstance(code, int)
    return code, out.getvalue(), err.getvalue()


def _same(block: Block, expected: str, found: str, command: str = "") -> None:
    if block.note("numbers vary") is not None:
        number = r"\d[\d,.]*( [kMGT]?B\b)?"
        expected, found = (re.sub(number, "9", text) for text in (expected, found))
    assert _COMPARE.check_output(expected, found, _FLAGS), f"{command}\n{found}\nis not\n{expected}"


def _script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_what_the_code_says():
    for path, text in _script("generate").pages().items():
        assert path.read_text() == text, "run: python docs/generate.py"


def test_drawings_are_what_the_code_says():
    for path, svg in _script("make_pictures").drawings().items():
        assert path.read_text() == svg, "run: python docs/make_pictures.py"


def test_every_option_is_in_the_reference():
    sections = (DOCS / "reference" / "cli.md").read_text().split("\n## tilseg ")
    named = {section.split("\n")[0]: section for section in sections[1:]}
    context = click.Context(cli)
    assert list(named) == cli.list_commands(context)
    for verb, section in named.items():
        command = cli.get_command(context, verb)
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert options
        for name in (name for option in options for name in option.opts):
            assert re.search(rf"`[^`]*{re.escape(name)}\b[^`]*`", section), f"{verb} {name}"


def test_every_error_is_in_the_reference():
    page = (DOCS / "reference" / "errors.md").read_text()
    for id, entry in CATALOGUE.items():
        section = page.split(f"\n### Exit {entry.kind.exit_code}: ")[1].split("\n### ")[0]
        assert f"`{id}`" in section
    for name, (code, builtin, _) in _script("generate").error_tree().items():
        error = getattr(errors, name)
        assert error.exit_code == code
        assert not builtin or builtin in [base.__name__ for base in error.__mro__]


def test_files_page_explains_every_field(tmp_path, monkeypatch, sample_data):
    from tiny import save_tiny_model

    save_tiny_model(tmp_path / "tiny.safetensors", bands=4)
    monkeypatch.chdir(tmp_path)
    image = str(sample_data / "scene.tif")
    options = ["--model", "tiny.safetensors", "--probabilities"]
    code, _, err = _run(shlex.join(["tilseg", "run", image, *options]))
    assert code == 0, err
    page = (DOCS / "reference" / "files.md").read_text()
    result = tmp_path / "scene.tilseg"
    for file in result.iterdir():
        assert f"`{file.name}`" in page
    parts = {
        "### summary.json": json.loads((result / "summary.json").read_text()),
        "### run.json": json.loads((result / "run.json").read_text()),
        "### The model card": Card.model_fields,
    }
    for title, fields in parts.items():
        section = re.split(r"^#+ ", page.split(title)[1], flags=re.M)[0]
        explained = set(re.findall(r"`(\w+)`", section))
        assert set(fields) <= explained, f"{title}: {set(fields) - explained}"


_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    for target in _LINK.findall(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.is_file(), target
        assert (
            page == ROOT / "README.md" or path.is_relative_to(page.parent) or DOCS in path.parents
        )
        if anchor:
            assert anchor in _anchors(path), target


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as Python-Markdown makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.M))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert named == pages, "mkdocs.yml names every page once"


def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("zensical", reason="the docs extra is not installed")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    zensical = Path(sys.executable).parent / "zensical"
    done = subprocess.run(
        [zensical, "build", "--strict"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    assert (tmp_path / "site" / "concepts" / "exact-tiling" / "index.html").is_file()


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_every_option_has_a_place_in_the_help(verb):
    command = cli.get_command(click.Context(cli), verb)
    *_, (_, others) = sections(command)
    assert [option.name for option in others] == ["debug"]
