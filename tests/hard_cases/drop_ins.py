"""The drop-in folder of a test about reloading, with a plugin that stamps its version on everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from .wire import post

__all__ = ["HARMLESS", "HOOK", "RELOAD", "STAMP", "Files", "files"]

RELOAD = post(b"", "/reload")
HOOK = "from raven_proxy import hookimpl\n@hookimpl\n"
HARMLESS = HOOK + "def register_faces(): ...\n"

STAMP = """
from raven_proxy import Face, Reply, hookimpl, read_nothing

started, stopped = [], []


@hookimpl
def register_routes(register):
    async def serve(exchange):
        return Reply(body=b"{version}")

    face = Face(name="v", path="/version-{version}", methods=("GET",), read_call=read_nothing, serve=serve)
    register(face)


@hookimpl
async def check_request(exchange):
    exchange.response_headers["x-stamp"] = "{version}"


@hookimpl
def open_stage(exchange):
    return Stage() if exchange.stream else None


class Stage:
    def feed(self, data):
        return data.replace(b'"content":"', b'"content":"{version}:')

    def close(self):
        return b""
"""


class Files:
    """The drop-in folder of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def stamp(self, version: str) -> None:
        self.write("stamp.py", STAMP.replace("{version}", version))

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path / "drop-ins")
    made.stamp("one")
    return made
