"""Write a new plugin package (`raven-proxy new-plugin NAME`) from the templates in `templates/plugin`.

The templates are tested by writing a package with them and running its own test.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from .config import FIRST_PARTY
from .errors import ConfigError

__all__ = ["write"]

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "$module/__init__.py": "plugin.py.txt",
    "$module/py.typed": None,
    "tests/test_$slug.py": "test_plugin.py.txt",
}


def write(name: str, folder: Path) -> Path:
    """Write `raven-{name}/` into `folder` and return its path.

    Raises ConfigError for a name that cannot be one, for a folder that exists, and where nothing can
    be written; an existing file is never touched.
    """
    _check_name(name)
    words = {
        "name": name,
        "slug": name.replace("-", "_"),
        "module": "raven_" + name.replace("-", "_"),
        "class_name": "".join(part.capitalize() for part in name.split("-")),
    }
    package = folder / f"raven-{name}"
    templates = resources.files(__package__) / "templates" / "plugin"
    try:
        package.mkdir(parents=True)
        for target, template in _FILES.items():
            path = package / Template(target).substitute(words)
            path.parent.mkdir(exist_ok=True)
            text = (templates / template).read_text(encoding="utf-8") if template else ""
            path.write_text(Template(text).substitute(words), encoding="utf-8")
    except FileExistsError as error:
        raise ConfigError(f"new-plugin: {error.filename} exists already") from None
    except OSError as error:
        raise ConfigError(f"new-plugin: {error.filename}: {error.strerror or error}") from error
    return package


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"new-plugin: {name!r} is no name for a plugin; use lower-case words of letters and digits, "
            'joined by "-"'
        )
    if name.startswith("raven-"):
        raise ConfigError(f"new-plugin: leave out the prefix: new-plugin {name.removeprefix('raven-')}")
    if name in FIRST_PARTY:
        raise ConfigError(f"new-plugin: {name!r} is the name of one of Raven Proxy's own plugins")
