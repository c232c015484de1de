"""The command: thin, and wrong in one line on standard error with exit status 1."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from raven_proxy import mock, plugins, process
from raven_proxy.cli import main
from raven_proxy.errors import ConfigError

PLUGIN = "from raven_proxy import hookimpl\n@hookimpl\nasync def check_request(exchange):\n    pass\n"


@pytest.fixture(autouse=True)
def _no_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAVEN_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def write(folder: Path, text: str) -> Path:
    path = folder / "raven.toml"
    path.write_text(text)
    return path


def test_help_names_every_command_and_those_of_plugins() -> None:
    output = run("--help").output
    for command in ("serve", "check", "plugins", "new-plugin", "mock", "keys"):
        assert f"  {command} " in output


def every_command(
    command: click.Command, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from every_command(found, (*words, name))


def test_help_fits_a_terminal_of_80_columns() -> None:
    """No line is longer, no summary is cut off, and every option says what it is for."""
    commands = dict(every_command(main))
    assert ("keys", "create") in commands
    for words, command in commands.items():
        result = CliRunner().invoke(main, [*words, "--help"], terminal_width=80)
        assert result.exit_code == 0
        for line in result.output.splitlines():
            assert len(line) <= 80, line
            assert line.startswith("Usage: ") or not line.endswith("..."), line
        silent = [one.name for one in command.params if isinstance(one, click.Option) and not one.help]
        assert [name for name in silent if name != "fd"] == [], words


def test_the_version_is_the_packages() -> None:
    assert importlib.metadata.version("raven-proxy") in run("--version").output


def test_it_runs_as_a_module_under_its_own_name() -> None:
    command = [sys.executable, "-m", "raven_proxy", "check", "--config", "none.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "raven-proxy: none.toml: cannot be read: No such file or directory\n"


def test_check_says_what_there_is(tmp_path: Path) -> None:
    result = run("check", "--config", write(tmp_path, 'plugins = ["openai", "demo"]\n'))
    assert result.exit_code == 0
    assert result.output.startswith("ok: 2 plugins, ")
    assert "1 upstreams" in result.output
    assert not (tmp_path / "data").exists()  # nothing is made by looking


def test_check_says_which_upstream_has_no_key(tmp_path: Path) -> None:
    """It may be meant, and mostly is not."""
    text = 'plugins = ["openai", "ollama", "demo"]\n[[upstreams]]\nname = "main"\nprovider = "openai"\n'
    result = run(
        "check", "--config", write(tmp_path, text + '[[upstreams]]\nname = "o"\nprovider = "ollama"\n')
    )
    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == [
        "note: [[upstreams]] main has no key: it serves who sends X-Provider-Key, alone"
    ]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("lisen = 'x'", "raven.toml: unknown key 'lisen'; did you mean 'listen'?"),
        ("plugins = ['none']", "plugins: 'none' is not installed"),
        ("plugins = []\n[[upstreams]]\nname='a'\nprovider='openai'", "provider 'openai' is unknown"),
        ("plugins = ['openai']\n[[models]]\nname='a'\ntarget='b/c'", "[[models]] a: target 'b/c'"),
    ],
)
def test_check_says_what_is_wrong_in_one_line(tmp_path: Path, config: str, words: str) -> None:
    result = run("check", "--config", write(tmp_path, config))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('plugins = ["meter"]\ncatalog = "none.json"', "none.json"),
        ('data_dir = "raven.toml"', "raven.toml is not a folder; name another"),
        ('data_dir = "raven.toml/data"', "raven.toml is not a folder; name another"),
        ('plugins = ["meter"]\ncatalog = "broken.json"', "broken.json"),
        ('plugins = ["meter"]\ncatalog = "negative.json"', "negative.json"),
        ('plugins = ["limits"]\n[plugin.limits]\ndefault_plan = "gold"', "gold"),
    ],
)
def test_check_finds_what_would_stop_the_start(tmp_path: Path, config: str, words: str) -> None:
    """What plugins judge when they start too; and the data folder stays as it is."""
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "negative.json").write_text('{"m": {"input": "-1"}}')
    result = run("check", "--config", write(tmp_path, config + "\n"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_check_and_plugins_see_the_drop_in_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "stamp.py").write_text(PLUGIN)
    config = write(tmp_path, "plugins = []\n")
    assert run("check", "--config", config, "--plugins-dir", "mine").output.startswith("ok: 1 plugins")
    assert (
        "stamp  file      check_request" in run("plugins", "--config", config, "--plugins-dir", "mine").output
    )
    (tmp_path / "mine" / "stamp.py").write_text("x =\n")
    for command in ("check", "plugins"):
        result = run(command, "--config", config, "--plugins-dir", "mine")
        assert result.exit_code == 1
        assert "stamp.py:1: invalid syntax" in result.stderr


def test_plugins_lists_hooks_in_order_of_call(tmp_path: Path) -> None:
    config = write(tmp_path, 'plugins = ["demo", "openai"]\n')
    rows: list[dict[str, Any]] = msgspec.json.decode(run("plugins", "--config", config, "--json").output)
    assert [row["name"] for row in rows] == ["demo", "openai"]
    assert set(rows[0]) == {"name", "version", "source", "hooks"}
    assert "register_faces" in rows[1]["hooks"]
    assert [line.split()[0] for line in run("plugins", "--config", config).output.splitlines()] == [
        "demo",
        "openai",
    ]


def test_the_environment_may_name_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVEN_CONFIG", str(write(tmp_path, "plugins = []\n")))
    assert run("check").output.startswith("ok: 0 plugins")
    assert run("plugins").output == ""
    assert "keys" not in run("--help").output  # nothing is on that would have commands


def test_help_works_where_the_config_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVEN_CONFIG", str(write(tmp_path, "plugins = ['none']\n")))
    result = run("--help")
    assert result.exit_code == 0
    assert "serve" in result.stdout
    assert "'none' is not installed" in result.stderr
    result = run("keys", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith("raven-proxy: plugins: 'none' is not installed")


def test_a_plugins_command_needs_no_providers_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "plugins = ['auth-keys']\n[[upstreams]]\nname='a'\nprovider='openai'\nkey={ env='RAVEN_NOT_SET' }\n"
    )
    monkeypatch.setenv("RAVEN_CONFIG", str(write(tmp_path, text)))
    assert run("keys", "--help").exit_code == 0


def test_an_unknown_command_is_said_to_be_one() -> None:
    result = run("sreve")
    assert result.exit_code == 2
    assert "No such command 'sreve'" in result.stderr


def test_two_plugins_cannot_offer_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def call_register(_manager: object, _hook: str, add: Any) -> None:
        add(click.Command("twice"))
        add(click.Command("twice"))

    monkeypatch.setattr(plugins, "call_register", call_register)
    result = run("twice")
    assert result.exit_code == 1
    assert "the command 'twice' is already registered" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "listen"),
    [
        ((), None),
        (("--port", "5000"), "127.0.0.1:5000"),
        (("--port", "0"), "127.0.0.1:0"),
        (("--host", "0.0.0.0"), "0.0.0.0:4000"),
        (("--host", "::1", "--port", "1"), "[::1]:1"),
    ],
)
def test_serve_hands_its_options_on(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], listen: str | None
) -> None:
    seen: dict[str, Any] = {}

    def fake(config_path: Path | None, overrides: dict[str, Any], fd: int | None) -> None:
        seen.update({name: value for name, value in overrides.items() if value is not None}, fd=fd)

    monkeypatch.setattr(process, "run", fake)
    assert run("serve", "--data-dir", "d", "--plugins-dir", "p", "--workers", "2", *arguments).exit_code == 0
    assert seen == {"data_dir": "d", "plugins_dir": "p", "workers": 2, "fd": None} | (
        {"listen": listen} if listen else {}
    )


def test_serve_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ConfigError("listen: 127.0.0.1:4000: Address already in use")

    monkeypatch.setattr(process, "run", fail)
    result = run("serve")
    assert (result.exit_code, result.stderr) == (
        1,
        "raven-proxy: listen: 127.0.0.1:4000: Address already in use\n",
    )


def test_new_plugin_writes_a_package_and_says_what_to_do(tmp_path: Path) -> None:
    result = run("new-plugin", "my-notes", "--dir", tmp_path)
    assert result.exit_code == 0
    assert f'pip install -e "{tmp_path / "raven-my-notes"}[test]"' in result.output
    assert (tmp_path / "raven-my-notes" / "raven_my_notes" / "__init__.py").is_file()
    assert run("new-plugin", "my-notes", "--dir", tmp_path).exit_code == 1
    assert run("new-plugin", "My Notes").exit_code == 1


def test_mock_runs_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def fake(*address: Any, **_: Any) -> None:
        seen.append(address)
        raise KeyboardInterrupt

    monkeypatch.setattr(mock, "serve", fake)
    result = run("mock", "--port", "0")
    assert result.exit_code == 0
    assert seen


def test_check_judges_the_secret_as_serve_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would stop `serve` stops `check`."""
    monkeypatch.setenv("RAVEN_SECRET", "changeme")
    (tmp_path / "raven.toml").write_text('listen = "0.0.0.0:4000"\n')
    result = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "raven.toml")])
    assert result.exit_code == 1
    assert "RAVEN_SECRET is too weak" in result.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('log_level = "chatty"', "use debug, info, warning or error"),
        ('[[upstreams]]\nname = "a"\nprovider = "openai"\nkey = "sk-x"', '{ env = "NAME" }'),
        ('[[upstreams]]\nname = "a"\nprovider = "opnai"', "did you mean 'openai'?"),
    ],
)
def test_a_wrong_value_comes_with_its_remedy(tmp_path: Path, text: str, words: str) -> None:
    """An error of the config says what to write instead."""
    (tmp_path / "raven.toml").write_text(text)
    result = CliRunner().invoke(main, ["check", "--config", str(tmp_path / "raven.toml")])
    assert result.exit_code == 1
    assert words in result.output
