"""T129: plugins that cannot be loaded stop the start; none is silently absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from .refusals import HEAD, Refusal, refused

pytestmark = pytest.mark.usefixtures("log_lines")


BROKEN_FILES: dict[str, tuple[str, list[str]]] = {
    "syntax": ("def f(:\n    pass\n", ["guard.py", ":1:"]),
    "name error": ("x = 1\ny = undefined_name\n", ["guard.py", ":2:", "undefined_name"]),
    "missing dependency": ("import os\n\nimport no_such_package\n", ["guard.py", ":3:", "no_such_package"]),
    "exit": ("import sys\nsys.exit(3)\n", ["guard.py", ":2:"]),
    "not utf-8": ("# coding: ascii\nx = 'é'\n", ["guard.py"]),
    "api version": ("api_version = 99\n", ["guard", "99"]),
    "hook typo": (
        HEAD + "@hookimpl\nasync def check_requst(exchange):\n    pass\n",
        ["guard", "check_requst", "did you mean 'check_request'"],
    ),
    "unknown hook": (HEAD + "@hookimpl\ndef zzz(exchange):\n    pass\n", ["guard", "zzz", "authenticate"]),
    "wrong colour": (
        HEAD + "@hookimpl\ndef check_request(exchange):\n    pass\n",
        ["guard", "check_request", "async def"],
    ),
    "wrong colour of a stage": (
        HEAD + "@hookimpl\nasync def open_stage(exchange):\n    pass\n",
        ["guard", "open_stage", "plain def"],
    ),
    "wrong argument": (
        HEAD + "@hookimpl\nasync def check_request(request):\n    pass\n",
        ["guard", "check_request", "request"],
    ),
    "a wrapper": (
        HEAD + "@hookimpl(wrapper=True)\ndef open_stage(exchange):\n    return (yield)\n",
        ["guard", "open_stage"],
    ),
    "init raises": (
        HEAD + "class Plugin:\n    def __init__(self):\n        raise RuntimeError('no license')\n",
        ["guard", "no license"],
    ),
    "a face of its own on a core route": (
        HEAD + "@hookimpl\ndef register_faces(register):\n"
        "    register(Face(name='mine', path='/health/live', methods=('GET',), read_call=read_nothing))\n",
        ["guard", "/health/live", "guard.py:4"],
    ),
    "a route clash with another plugin": (
        HEAD + "@hookimpl\ndef register_faces(register):\n"
        "    register(Face(name='mine', path='/v1/chat/completions', read_call=read_nothing))\n",
        ["guard", "/v1/chat/completions", "guard.py:4"],
    ),
    "a route without serve": (
        HEAD + "@hookimpl\ndef register_routes(register):\n"
        "    register(Face(name='mine', path='/x', read_call=read_nothing))\n",
        ["guard", "/x", "guard.py:4"],
    ),
    "a face that is none": (
        HEAD + "@hookimpl\ndef register_faces(register):\n    register('chat')\n",
        ["guard", "Face", "guard.py:4"],
    ),
    "a provider twice": (
        HEAD
        + "class P:\n    name = 'openai'\n@hookimpl\ndef register_providers(register):\n    register(P())\n",
        ["guard", "openai", "already"],
    ),
    "register raises": (
        HEAD + "@hookimpl\ndef register_faces(register):\n    raise KeyError('oops')\n",
        ["guard", "register_faces", "oops", "guard.py:4"],
    ),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_t129_a_broken_drop_in_stops_the_start(refusal: Refusal, name: str) -> None:
    """A plugin file with a fault is named, with its line, and nothing starts without it."""
    text, words = BROKEN_FILES[name]
    said = refusal(files={"guard.py": text})
    assert all(word in said for word in words), said


def test_t129_startup_that_raises_stops_the_start(refusal: Refusal) -> None:
    """What only shows at the start is refused there, naming plugin and hook."""
    text = HEAD + "@hookimpl\nasync def startup(gateway):\n    raise OSError('no disk')\n"
    said = refusal(files={"guard.py": text}, only="serve")
    assert "guard" in said
    assert "startup" in said
    assert "no disk" in said


def test_t129_a_plugin_that_is_absent_is_never_just_left_out(refusal: Refusal) -> None:
    """Named in the config but not installed: refused, with what is installed."""
    said = refusal({"plugins": ["auth-keys", "guardrailz", "openai"]})
    assert "guardrailz" in said
    assert "auth-keys" in said
    said = refusal({"plugins": ["openai"], "plugin": {"auth-keys": {"timeout_s": 1}}})
    assert "auth-keys" in said
    assert "not on" in said


def test_t129_a_name_twice_is_refused(refusal: Refusal) -> None:
    """The same plugin twice, or a file with the name of an installed plugin, is refused."""
    assert "'openai' is named twice" in refusal({"plugins": ["openai", "openai"]})
    lax = HEAD + "@hookimpl\nasync def authenticate(exchange):\n    return None\n"
    said = refusal({"plugins": ["auth-keys", "openai"]}, {"auth-keys.py": lax})
    assert "auth-keys.py" in said


def test_t129_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A drop-in folder that is not there would be plugins that are silently absent."""
    missing = tmp_path / "nowhere"
    where = ("--plugins-dir", str(missing))
    assert str(missing) in refused("check", *where)
    assert str(missing) in refused("serve", *where, "--port", "0", "--data-dir", str(tmp_path / "data"))


def package(folder: Path, dist: str, module: str, code: str, name: str = "fake") -> None:
    """Put an installed package with a plugin into `folder`."""
    info = folder / f"{dist.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[raven_proxy]\n{name} = {module}:Plugin\n")
    (folder / f"{module}.py").write_text(code)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_package\n", ["ModuleNotFoundError", "no_such_package"]),
        ("Plug = 1\n", ["AttributeError"]),
        ("class Plugin:\n    api_version = 2\n", ["API 2"]),
        ("import sys\nsys.exit()\n", ["SystemExit"]),
        ("class Plugin:\n    def __init__(self):\n        1 / 0\n", ["ZeroDivisionError"]),
    ],
)
def test_t129_an_installed_plugin_that_cannot_be_imported(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: list[str]
) -> None:
    """The same for a package: its name and what is wrong."""
    module = f"raven_fake_{abs(hash(code))}"
    package(tmp_path / "site", "raven-fake", module, code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    said = refusal({"plugins": ["fake", "openai"]})
    assert all(word in said for word in ["fake", *words]), said


def test_t129_two_packages_with_one_name(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two packages that offer a plugin of one name: neither is chosen silently."""
    for number in (1, 2):
        package(tmp_path / "site", f"raven-fake{number}", f"raven_fakes{number}", "class Plugin: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    said = refusal({"plugins": ["fake", "openai"]})
    assert "raven-fake1, raven-fake2" in said
