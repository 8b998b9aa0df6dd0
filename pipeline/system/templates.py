"""Renders the Jinja templates of HTML pages and of configuration files."""

import pathlib

from pipeline.system import texts

SHARED_DIR = pathlib.Path(__file__).parent / "templates"


def render(
    folder: pathlib.Path, name: str, *, escape_html: bool, **values: object
) -> str:
    """Renders a template file.

    Args:
      folder: the folder of the template. A template can also extend or include the
        shared ones of this package, such as page.html, the frame of every HTML page.
      name: the file in that folder.
      escape_html: escape the values, so that no file name or label becomes markup, and
        write control characters as text.
      values: what the template names; a name without a value is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, SHARED_DIR]),
        autoescape=escape_html,
        finalize=_escape_controls if escape_html else None,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(values)


def _escape_controls(value: object) -> object:
    """Escapes the control characters of a text that is no markup, but for its lines."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(texts.escape_controls(line) for line in value.split("\n"))
