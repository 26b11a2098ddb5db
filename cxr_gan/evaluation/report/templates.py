"""The Jinja templates in this folder, and their filters."""

import functools
import re

import jinja2
from markupsafe import Markup, escape

from cxr_gan.evaluation.report.text import format_estimate, format_number, metric_name

DECIMALS = 4  # of `format_number`, at most


@functools.cache
def environment() -> jinja2.Environment:
    """Loads templates from the package; those of HTML pages escape all values."""
    result = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr_gan.evaluation.report", ""),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    result.filters |= {
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "code": code,
        "estimate": format_estimate,
        "metric": metric_name,
        "number": format_number,
        "padding": padding,
    }
    return result


def code(text: str) -> Markup:
    """Escaped text in which words in backticks become code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def padding(number: str) -> str:
    """The decimals a number lacks; shown invisibly, they align decimal points."""
    _, point, decimals = number.partition(".")
    return ("" if point else ".") + "0" * (DECIMALS - len(decimals))
