"""HTML from a template, with its style, script and pictures inside, and a policy that lets it ask
for nothing else (Content Security Policy level 3)."""

from __future__ import annotations

import base64
import hashlib
import struct
from pathlib import Path
from typing import Any

import jinja2

_HERE = Path(__file__).parent


def render(template: Path, **facts: Any) -> str:
    """The page of a template that extends `page.html.j2`.

    A script beside the template that has its name, x.js for x.html.j2, goes in too. Whatever
    `facts` hold is text: it can't become markup.
    """
    loader = jinja2.FileSystemLoader([template.parent, _HERE])
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    beside = template.with_name(template.name.replace(".html.j2", ".js"))
    style = (_HERE / "page.css").read_text()
    script = beside.read_text() if beside.is_file() else ""
    return environment.get_template(template.name).render(
        facts,
        style=style,
        script=script,
        policy=_policy(style, script),
    )


def _policy(style: str, script: str) -> str:
    """What the page may load: what is in it, and no other style or script than these."""
    scripts = _hash(script) if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def inline(picture: bytes) -> str:
    """A PNG or JPEG as what the `src` of an `img` holds."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def png_width(png: bytes) -> int:
    """Pixels across."""
    return int(struct.unpack(">I", png[16:20])[0])
