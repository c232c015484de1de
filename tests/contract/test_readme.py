"""The README: its code runs, its tables are true, its links lead somewhere."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy import errors, hookspecs, plugins
from raven_proxy.assembly import assemble
from raven_proxy.cli import main
from raven_proxy.config import Config, decode_table
from raven_proxy.core_faces import core_faces
from raven_proxy.harness import GatewayStarter

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^>]*) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
BLOCKS = [match.groupdict() for match in BLOCK.finditer(README)]
KEY = "rk_live_" + "k7Q2vX9m" * 5


def blocks(kind: str, note: str | None = None) -> list[Any]:
    """Give the blocks of a kind; without a note those that are run."""
    found = [block for block in BLOCKS if block["kind"] == kind]
    return [b for b in found if (not b["note"] if note is None else (b["note"] or "").startswith(note))]


def rows(heading: str) -> list[list[str]]:
    """Give the cells of the table under a heading."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# -- code -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with the files that the README writes, and a gateway there as `make run` starts it."""
    folder = tmp_path_factory.mktemp("readme")
    for block in blocks("python", "file: "):
        path = folder / block["note"].removeprefix("file: ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block["text"])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAVEN_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "raven_proxy", "serve", "--port", "0"],
        cwd=folder, env={**environment, "RAVEN_ADMIN_KEY": KEY},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    yield folder, url
    process.terminate()
    process.communicate(timeout=15)


def run(command: list[str], site: tuple[Path, str]) -> str:
    folder, url = site
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [word.replace("http://127.0.0.1:4000", url) for word in command]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path, "RAVEN_KEY": KEY},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block["text"].split("\n")[0][:40])
def test_a_shell_block_runs(site: tuple[Path, str], block: dict[str, str]) -> None:
    """Every shell block without a mark runs against a live gateway with the demo provider."""
    text = block["text"]
    if "curl" in text and not shutil.which("curl"):
        pytest.fail("curl is not installed") if os.environ.get("CI") else pytest.skip("curl is not installed")
    output = run(["bash", "-euo", "pipefail", "-c", text.replace("curl ", "curl -sS --fail ")], site)
    if "/chat/completions" in text:
        assert '"object":"chat.completion"' in output
        assert output.rstrip().endswith("data: [DONE]")
    else:
        assert output.strip()


@pytest.mark.parametrize(
    "block", blocks("python"), ids=lambda block: block["text"].strip().split("\n")[0][:40]
)
def test_a_python_block_runs(site: tuple[Path, str], block: dict[str, str]) -> None:
    """Every Python block without a mark runs against a live gateway with the demo provider."""
    if "openai" in block["text"]:
        pytest.importorskip("openai")
    assert "Hello!" in run([sys.executable, "-W", "ignore", "-c", block["text"]], site)


def test_every_block_is_run_or_says_why_not() -> None:
    """A block of shell or Python is run, written to a file that is, or marked with a reason."""
    for block in BLOCKS:
        if block["kind"] in {"sh", "python"} and block["note"]:
            assert re.fullmatch(r"not run: .{5,}|file: \S+\.py", block["note"])
    assert blocks("python")
    assert len(blocks("sh")) >= 5


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block["text"].split("\n")[0])
def test_a_toml_block_is_a_config(block: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every TOML block is read and assembled as a whole config."""
    for name in re.findall(r'env = "(\w+)"', block["text"]):
        monkeypatch.setenv(name, "sk-test")
    config = decode_table(tomllib.loads(block["text"]), Config, "README.md")
    assert assemble(config, ()).config is config


def test_the_json_block_is_the_envelope() -> None:
    """The error shown has exactly the members of a real one."""
    (block,) = blocks("json")
    shown = msgspec.json.decode(block["text"])
    real = msgspec.json.decode(
        errors.envelope(errors.InvalidRequest("x", code="model_not_found", param="model"), "req_1")
    )
    assert list(shown["error"]) == list(real["error"])
    assert {k: shown["error"][k] for k in ("type", "code", "param", "status")} == {
        k: real["error"][k] for k in ("type", "code", "param", "status")
    }


async def test_the_plugin_shown_does_what_it_says(raven: GatewayStarter, tmp_path: Path) -> None:
    """The one-file plugin of the README refuses what it says it refuses."""
    (block,) = blocks("python", "file: ")
    (tmp_path / "no_previews.py").write_text(block["text"])
    assert len(block["text"].splitlines()) <= 10
    gateway = await raven([tmp_path / "no_previews.py"])
    for model, status in (("demo/x-preview", 403), ("demo/x", 200)):
        async with gateway.client.post(
            "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "hi"}]}
        ) as reply:
            assert reply.status == status


# -- tables ---------------------------------------------------------------------------


def test_the_table_of_faces_is_what_is_served() -> None:
    """The table names every path of the default plugins but the resources', with its scope, and no other."""
    nobody: Any = None
    pipeline = assemble(Config(), core_faces(nobody))
    resources = {resource.name for resource in pipeline.resources}
    served = {
        (method, face.path.replace(":path", "")): face.scope or "none"
        for face in pipeline.faces()
        if face.doc is None or face.doc.tag not in resources
        for method in face.methods
    }
    served["ANY", "/v1/{provider}/{endpoint}"] = (
        "the scope of the face that the endpoint speaks; for an unknown one see below"
    )
    shown = {}
    for paths, _, scope in rows("Faces and paths"):
        for path in quoted(paths):
            method, _, place = path.partition(" ")
            shown[method, place] = (quoted(scope) or [scope])[0]
    assert shown == served


def test_the_table_of_resources_is_what_is_declared() -> None:
    """Each resource of the default plugins with its roles, and every action beside the usual."""
    nobody: Any = None
    shown = {}
    for path, _, read, write, beside in rows("Management API"):
        shown[quoted(path)[0]] = (read, write, set(quoted(beside)))
    resources = assemble(Config(), core_faces(nobody), records=lambda: nobody).resources
    assert shown == {
        resource.base_path: (
            resource.read_role,
            resource.write_role if resource.operations & {"create", "change", "delete"} else "nobody",
            {
                f"{action.method} {resource.base_path}{'/{id}' if action.on == 'one' else ''}/{action.name}"
                for action in resource.actions
            },
        )
        for resource in resources
    }


def test_the_table_of_hooks_is_the_hookspecs() -> None:
    """The table names every hook once, with the colour of its spec, in the order of call."""
    shown = {quoted(row[0])[0]: row[2] for row in rows("Hooks")}
    assert shown == {
        name: "async" if asyncio.iscoroutinefunction(getattr(hookspecs, name)) else "sync"
        for name in all_hooks()
    }
    assert len(rows("Hooks")) == len(shown)


def test_the_table_says_which_hooks_stop_at_the_first_answer() -> None:
    """A hook whose spec is `firstresult` says "first", and no other does."""
    for name, _, _, results in rows("Hooks"):
        spec = getattr(hookspecs, quoted(name)[0]).raven_proxy_spec
        assert results.startswith("first ") is bool(spec["firstresult"]), name


def all_hooks() -> list[str]:
    return [name for name, value in vars(hookspecs).items() if hasattr(value, "raven_proxy_spec")]


def test_the_table_of_commands_is_the_command_line() -> None:
    """The table names every command, and for `keys` every sub-command and for `serve` every option."""
    import click

    context = click.Context(main)
    shown = {quoted(row[0])[0].removeprefix("raven-proxy "): quoted(row[1]) for row in rows("Commands")}
    assert sorted(shown) == main.list_commands(context)
    keys, serve = main.get_command(context, "keys"), main.get_command(context, "serve")
    assert isinstance(keys, click.Group)
    assert sorted(shown["keys"]) == sorted(keys.commands)
    assert serve is not None
    options = {o.opts[0] for o in serve.params if isinstance(o, click.Option) and not o.hidden}
    assert set(shown["serve"]) == options


def test_the_table_of_errors_has_the_types_of_each_status() -> None:
    """Each status in the table has the type that errors of that status get."""
    for statuses, kind, codes in rows("Replies and errors"):
        for status in map(int, statuses.split(", ")):
            assert [errors.default_type(status)] == quoted(kind)
            if status not in {429}:
                assert errors.default_code(status) in quoted(codes)


# -- the rest -------------------------------------------------------------------------


def test_every_link_leads_somewhere() -> None:
    """Links are files of this repository or headings of this file."""
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in README.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (ROOT / target).exists(), target


def test_what_is_named_in_the_text_exists() -> None:
    """Paths of this repository and make targets that the text names exist."""
    for path in re.findall(r"`((?:config|tests|examples|plugins|raven_proxy)/[\w./-]+)`", README):
        assert (ROOT / path).exists(), path
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README):
        assert f"\n{target}:" in targets, target


def test_the_default_plugins_are_those_that_the_install_names() -> None:
    """The install block names every first-party plugin that is here, and they are on by default."""
    block = next(b for b in blocks("sh", "not run") if "pip install" in b["text"])
    named = set(re.findall(r"plugins/(raven-[\w-]+)", block["text"]))
    assert named == {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    assert set(plugins.find_first_party()) == {name.removeprefix("raven-") for name in named}


def test_the_bench_has_its_place() -> None:
    """`make bench` has one place to write its table to."""
    assert README.count("<!-- bench -->") == README.count("<!-- /bench -->") == 1
