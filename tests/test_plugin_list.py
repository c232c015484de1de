"""`GET /plugins`: what is on, in order, and what each brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import GatewayStarter

DROP_IN = """
from raven_proxy import Face, Reply, hookimpl, read_nothing

async def serve(exchange):
    return Reply()

@hookimpl
def register_routes(register):
    register(Face(name="hello", path="/hello", methods=("GET", "PUT"), scope="admin:read", role="viewer",
                  read_call=read_nothing, serve=serve))

@hookimpl
async def shutdown():
    pass

@hookimpl
async def authenticate(exchange):
    return None
"""


async def read(gateway: Any, path: str = "/plugins") -> tuple[int, Any, str | None]:
    async with gateway.client.get(path) as reply:
        return reply.status, msgspec.json.decode(await reply.read()), reply.headers.get("Link")


async def test_R_each_plugin_says_what_it_is_and_brings(raven: GatewayStarter, tmp_path: Path) -> None:
    """In order of call; hooks in order of call too; what a resource comes to is no face of its plugin's."""
    (tmp_path / "greeter.py").write_text(DROP_IN)
    gateway = await raven([tmp_path / "greeter.py"], base=("access", "openai", "demo"))
    status, listed, _ = await read(gateway)
    assert status == 200
    names = [plugin.name for plugin in gateway.gateway.pipeline.plugins]
    assert [one["name"] for one in listed] == names
    found = {one["name"]: one for one in listed}
    assert found["greeter"] == {
        "name": "greeter", "version": "file", "source": "greeter.py",
        "hooks": ["register_routes", "shutdown", "authenticate"],
        "faces": ["GET /hello", "PUT /hello"], "resources": [], "providers": [],
    }  # fmt: skip
    assert (found["access"]["source"], found["access"]["resources"]) == ("raven-access", ["domains"])
    assert found["access"]["version"] == "0.1.0"
    assert "POST /v1/chat/completions" in found["openai"]["faces"]
    assert {"openai", "groq"} <= set(found["openai"]["providers"])
    assert not any(face.endswith("/domains") for one in listed for face in one["faces"])


async def test_it_tells_nothing_of_the_machine(raven: GatewayStarter, tmp_path: Path) -> None:
    """Neither where the drop-ins lie nor where the gateway does."""
    (tmp_path / "greeter.py").write_text(DROP_IN)
    gateway = await raven([tmp_path / "greeter.py"])
    async with gateway.client.get("/plugins") as reply:
        text = await reply.text()
    assert str(tmp_path) not in text
    assert str(gateway.folder) not in text


async def test_it_pages_as_every_list_does(raven: GatewayStarter) -> None:
    gateway = await raven()
    walked: list[str] = []
    path: str | None = "/plugins?limit=1"
    while path:
        _, page, link = await read(gateway, path)
        assert len(page) == 1
        walked += [one["name"] for one in page]
        path = link.split(">")[0][1:] if link else None
    assert walked == [plugin.name for plugin in gateway.gateway.pipeline.plugins]
    assert (await read(gateway, f"/plugins?after={walked[-1]}"))[1] == []
    assert (await read(gateway, f"/plugins?limit={len(walked)}"))[2] is None


@pytest.mark.parametrize(("name", "value"), [("after", "none"), ("limit", "0"), ("limit", "1001")])
async def test_a_bad_page_names_its_parameter(raven: GatewayStarter, name: str, value: str) -> None:
    status, answer, _ = await read(await raven(), f"/plugins?{name}={value}")
    error = answer["error"]
    assert (status, error["type"], error["param"]) == (400, "validation_error", name)
