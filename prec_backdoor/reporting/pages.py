"""Templates of all pages."""

import functools
import re

import jinja2
from markupsafe import Markup, escape


def template(name: str) -> jinja2.Template:
    """Returns the template of a page, such as "report.html"."""
    return _environment().get_template(f"{name}.jinja")


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("prec_backdoor.reporting")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=lambda name: name.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _markdown
    environment.filters["hold"] = _hold
    environment.filters["command"] = _command
    return environment


def _markdown(text) -> str:
    """Escapes `text`, which may come from the dataset, for Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$&])", r"\\\1", " ".join(str(text).split()))


def _hold(text: str) -> Markup:
    """Keeps a number and its per cent sign, and a flag's name, on one line."""
    held = str(escape(text.replace(" %", "\N{NO-BREAK SPACE}%")))
    return Markup(re.sub(r"(--\w+(?:=[\w.]+)?)", r'<span class="whole">\1</span>', held))


def _command(text: str) -> Markup:
    """A command to copy, which is broken between its flags only."""
    first, *rest = text.split(" --")
    parts = (f"<span>{escape(part)}</span>" for part in (first, *(f"--{each}" for each in rest)))
    return Markup(f'<pre class="command">{" ".join(parts)}</pre>')
