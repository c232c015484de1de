"""Promises about the repository itself: names, sizes, packages, dependencies."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import raven_proxy
from raven_proxy.config import FIRST_PARTY

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "raven_proxy").glob("*.py"))
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())
MODULES = sorted(
    path
    for folder in (ROOT / "raven_proxy", *PLUGINS, ROOT / "examples")
    for path in folder.rglob("*.py")
    # Snippets are what a page shows: a reader's first lines, not modules of ours.
    if not {"tests", "__pycache__", "snippets"} & set(path.relative_to(ROOT).parts)
)
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc", "lib"}
ELSEWHERE = {
    "__init__": "contract/test_repository.py",
    "__main__": "test_cli.py",
    "backlog": "test_storage.py",
    "changes": "test_storage.py",
    "harness": "test_testing.py",
    "hookspecs": "contract/test_hooks.py",
    "migrations": "test_storage.py",
    "shared_counters": "test_counters.py",
}
"""Modules that are tested through another one."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """List the files that a commit would have."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


# -- modules --------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_is_named_explained_and_short(path: Path) -> None:
    """A module has a telling name and a docstring, and at most 300 lines unless that says why."""
    text = path.read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert path.stem not in VAGUE
    assert len(doc.split()) >= 5, "the docstring says too little"
    assert text.count("\n") <= 300 or "lines" in doc


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_function_is_short(path: Path) -> None:
    """A function has at most 40 lines of code unless its docstring says why."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node) or ""
            begin = node.body[1].lineno if doc and len(node.body) > 1 else node.lineno
            assert (node.end_lineno or 0) - begin < 40 or "lines" in doc, (
                f"{node.name}: {node.end_lineno} - {begin}"
            )


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_states_what_is_public(path: Path) -> None:
    """What `__all__` names exists; what it does not name is not imported by another package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [
        element.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for element in getattr(node.value, "elts", ())
    ]
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        defined |= {getattr(target, "id", "") for target in targets}
        if isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
    assert set(names) <= defined
    if path.parent == ROOT / "raven_proxy" and path.stem != "__main__":
        assert names, "a core module names what is public"


def test_the_public_api_is_what_the_package_names() -> None:
    """`raven_proxy.__all__` is sorted, and holds every public name of the package and no other."""
    public = {
        name for name, value in vars(raven_proxy).items()
        if not name.startswith("_") and not isinstance(value, type(sys)) and name != "annotations"
    }  # fmt: skip
    assert set(raven_proxy.__all__) == public
    assert raven_proxy.__all__ == sorted(raven_proxy.__all__)


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_a_core_module_has_a_test_file(path: Path) -> None:
    """`raven_proxy/x.py` is tested by `tests/test_x.py`, or by the file that stands in the list above."""
    name = ELSEWHERE.get(path.stem, f"test_{path.stem}.py")
    assert (ROOT / "tests" / name).is_file()
    if path.stem in ELSEWHERE and not path.stem.startswith("__"):
        assert path.stem in (ROOT / "tests" / name).read_text(), f"{name} does not mention it"


def test_the_list_of_modules_tested_elsewhere_is_short_and_true() -> None:
    """A module with a test file of its own is not in the list."""
    assert set(ELSEWHERE) <= {path.stem for path in CORE}
    for name in ELSEWHERE:
        assert not (ROOT / "tests" / f"test_{name}.py").exists()


# -- packages -------------------------------------------------------------------------


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_is_a_whole_package(folder: Path) -> None:
    """Each folder under `plugins/` is a distribution with README, types and tests, under its own name."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    module = folder.name.replace("-", "_")
    assert project["name"] == folder.name
    assert project["readme"] == "README.md"
    assert project["license"] == "MIT"
    assert (
        project["requires-python"]
        == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    )
    assert len((folder / "README.md").read_text().split()) >= 50
    assert (folder / module / "__init__.py").is_file()
    assert (folder / module / "py.typed").is_file()
    assert list((folder / "tests").glob("test_*.py"))
    (name,) = project["entry-points"]["raven_proxy"]
    assert folder.name == f"raven-{name}"
    assert name in FIRST_PARTY


def test_a_plugin_imports_another_only_if_it_says_so() -> None:
    """Deleting a plugin's folder breaks nothing else, but for those that declare that they stand on it.

    A vendor's dialect belongs to one package: who carries that dialect elsewhere (Claude on Vertex) depends
    on it rather than copying it.
    """
    for folder in PLUGINS:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        optional = project.get("optional-dependencies", {}).values()
        declared = [*project["dependencies"], *chain.from_iterable(optional)]
        allowed = {re.split(r"[<>=!~ ;\[]", text)[0].replace("-", "_") for text in declared}
        others = {other.name.replace("-", "_") for other in PLUGINS if other != folder} - allowed
        for path in folder.rglob("*.py"):
            if "tests" not in path.parts:
                assert imports(path).isdisjoint(others), relative(path)


def test_the_core_imports_no_plugin() -> None:
    """The core knows no plugin by name, but for the list of its own in their default order."""
    ours = {folder.name.replace("-", "_") for folder in PLUGINS}
    for path in (ROOT / "raven_proxy").rglob("*.py"):
        assert imports(path).isdisjoint(ours), relative(path)


def imports(path: Path) -> set[str]:
    """Name the top-level packages that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


PROJECTS = [ROOT / "pyproject.toml", *(folder / "pyproject.toml" for folder in PLUGINS)]


@pytest.mark.parametrize("path", PROJECTS, ids=relative)
def test_a_dependency_has_a_reason(path: Path) -> None:
    """Every dependency stands on a line of its own, with a comment that says what it is for."""
    section = ""
    inside = False
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif re.fullmatch(r"[a-z]+ = \[", line):
            inside = line.startswith("dependencies") or section == "[project.optional-dependencies]"
        elif line == "]":
            inside = False
        elif inside and '"raven-' not in line:
            assert re.search(r'",\s+# \S+', line), line


@pytest.mark.parametrize("path", PROJECTS, ids=relative)
def test_what_is_imported_is_declared(path: Path) -> None:
    """Every package that the code imports is a dependency of its own distribution, not of another one's."""
    project = tomllib.loads(path.read_text())["project"]
    lists = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    declared = {re.split(r"[^\w-]", text)[0].lower().replace("_", "-") for texts in lists for text in texts}
    owners = importlib.metadata.packages_distributions()
    package = path.parent / ("raven_proxy" if path.parent == ROOT else path.parent.name.replace("-", "_"))
    for module in (path for path in package.rglob("*.py") if "snippets" not in path.parts):
        for name in imports(module) - set(sys.stdlib_module_names) - {package.name}:
            distributions = {owner.lower().replace("_", "-") for owner in owners.get(name, [name])}
            assert distributions & declared or name == "pytest_asyncio", f"{relative(module)} imports {name}"


# -- files ----------------------------------------------------------------------------


def test_the_licence_is_mit_and_named_in_every_package() -> None:
    """`LICENSE` is MIT's text."""
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")


def test_there_is_no_lock_file() -> None:
    """No file records where packages were downloaded from."""
    locks = {
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "Pipfile.lock",
        "package-lock.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "requirements.txt",
    }
    assert [relative(path) for path in tracked() if path.name in locks] == []


def test_nothing_names_one_machine() -> None:
    """No file holds a path that exists on one machine only."""
    private = re.compile(r"(?<![\w.])/(?:home|root|Users|work|mnt|workspace)/[\w.]")
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        found = private.search(text)
        assert found is None, f"{relative(path)}: {text[found.start() : found.start() + 60]!r}"


def test_the_top_level_is_what_the_design_fixes() -> None:
    """Nothing lies about at the top level."""
    fixed = {
        "pyproject.toml",
        "README.md",
        "raven_proxy",
        "plugins",
        "config",
        "tests",
        "examples",
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
    }
    top = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in top if not name.startswith(".")} == fixed


def test_every_first_party_version_is_the_cores() -> None:
    """The core and its plugins are released together."""
    versions = {tomllib.loads(path.read_text())["project"]["version"] for path in PROJECTS}
    assert len(versions) == 1
    (version,) = versions
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
