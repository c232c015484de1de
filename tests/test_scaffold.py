"""`raven-proxy new-plugin` writes a package that installs, loads and passes its own test."""

import os
import subprocess
import sys
from importlib import resources

import pytest
from click.testing import CliRunner

from raven_proxy import ConfigError, cli, scaffold

BY_CLASS = """
from raven_my_notes import MyNotes


async def test_the_class_of_an_installed_plugin_stands_for_it(raven):
    gateway = await raven([MyNotes], config={"plugin": {"my-notes": {"greeting": "hi"}}})
    async with gateway.client.get("/v1/models") as reply:
        assert reply.headers["x-my-notes"] == "hi"
"""
PYTEST = (sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")


def run(*command, cwd, path=None):
    paths = [str(path)] if path else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["notes", "my-own-notes2", "a-b-2"])
def test_the_written_packages_test_passes_before_it_is_installed(tmp_path, name):
    package = scaffold.write(name, tmp_path)
    done = run(*PYTEST, str(package), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_written_package_installs_and_the_gateway_finds_it(tmp_path):
    pytest.importorskip("hatchling")  # builds it; without a network pip cannot fetch it
    package = scaffold.write("my-notes", tmp_path)
    target = tmp_path / "installed"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
    ]
    done = run(*pip, "--no-build-isolation", "--target", str(target), str(package), cwd=tmp_path, path=target)
    assert done.returncode == 0, done.stderr
    config = tmp_path / "raven.toml"
    config.write_text('plugins = ["my-notes"]\n[plugin.my-notes]\ngreeting = "hi"\n')
    checked = run(
        sys.executable, "-m", "raven_proxy", "check", "--config", str(config), cwd=tmp_path, path=target
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "ok: 1 plugins" in checked.stdout
    done = run(*PYTEST, str(package), cwd=tmp_path, path=target)
    assert done.returncode == 0, done.stdout + done.stderr
    by_class = package / "tests" / "test_by_class.py"
    by_class.write_text(BY_CLASS)
    done = run(*PYTEST, str(by_class), cwd=tmp_path, path=target)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_writes_it_and_says_how_to_go_on(tmp_path):
    done = CliRunner().invoke(cli.main, ["new-plugin", "notes", "--dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    package = tmp_path / "raven-notes"
    assert f'pip install -e "{package}[test]"\n  pytest {package}\n' in done.output
    assert (tmp_path / "raven-notes" / "raven_notes" / "__init__.py").is_file()


def test_every_word_of_the_templates_is_filled_in(tmp_path):
    package = scaffold.write("notes", tmp_path)
    written = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    assert written == [
        "README.md",
        "pyproject.toml",
        "raven_notes/__init__.py",
        "raven_notes/py.typed",
        "tests/test_notes.py",
    ]
    assert not [path for path in package.rglob("*") if path.is_file() and "$" in path.read_text()]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Notes",
        "my notes",
        "my_notes",
        "-notes",
        "notes-",
        "a--b",
        "2notes",
        "../up",
        "a/b",
        "ü",
        "raven-notes",
        "openai",
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(tmp_path, name):
    with pytest.raises(ConfigError, match="new-plugin"):
        scaffold.write(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path):
    mine = tmp_path / "raven-notes"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        scaffold.write("notes", tmp_path)
    assert (mine / "README.md").read_text() == "mine"
    assert [path.name for path in mine.iterdir()] == ["README.md"]


def test_a_folder_that_cannot_be_written_is_a_config_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="new-plugin"):
        scaffold.write("notes", tmp_path / "file" / "below")


def test_the_templates_are_package_data():
    folder = resources.files("raven_proxy") / "templates" / "plugin"
    assert (folder / "plugin.py.txt").is_file()
