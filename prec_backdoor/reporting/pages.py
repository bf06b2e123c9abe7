"""Templates of all pages."""

import functools
import re

import jinja2


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
    return environment


def _markdown(text) -> str:
    """Escapes `text`, which may come from the dataset, for Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$&])", r"\\\1", " ".join(str(text).split()))


def _hold(text: str) -> str:
    """Keeps a number and its per cent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
