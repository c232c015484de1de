"""Routes: which face serves a path, and which paths are refused because two readers could differ."""

from __future__ import annotations

import pytest

from raven_proxy.errors import ConfigError, GatewayError, InvalidRequest, NotFound
from raven_proxy.faces import Face, read_nothing
from raven_proxy.routes import Routes, check_path


def face(path: str, *methods: str) -> Face:
    return Face(name=path, path=path, methods=methods or ("POST",), read_call=read_nothing)


CHAT, MODELS, MODEL, TASK = (
    face("/v1/chat/completions"),
    face("/v1/models", "GET"),
    face("/v1/models/{id:path}", "GET"),
    face("/tasks/{task}/steps/{step}", "GET", "DELETE"),
)
ROUTES = Routes([CHAT, MODELS, MODEL, TASK])


def test_an_exact_path_and_its_api_alias_find_the_same_face() -> None:
    assert ROUTES.find("POST", "/v1/chat/completions") == (CHAT, {})
    assert ROUTES.find("POST", "/api/v1/chat/completions") == (CHAT, {})


def test_named_segments_are_matched_and_path_segments_may_hold_slashes() -> None:
    assert ROUTES.find("GET", "/tasks/a/steps/2") == (TASK, {"task": "a", "step": "2"})
    assert ROUTES.find("GET", "/api/v1/models/openai/gpt-4o") == (MODEL, {"id": "openai/gpt-4o"})
    with pytest.raises(NotFound):
        ROUTES.find("GET", "/tasks/a/b/steps/2")


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/chat/completions", "/v1/chat/completions"), ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"), ("/models", "/v1/models"), ("/nothing", None),
    ],
)  # fmt: skip
def test_a_base_url_that_is_nearly_right_is_told_what_is(path: str, near: str | None) -> None:
    with pytest.raises(NotFound) as refusal:
        ROUTES.find("GET", path)
    said = refusal.value.message.partition(" Did you mean ")[2]
    assert said == (f"{near}?" if near else "")


def test_head_is_served_as_get() -> None:
    assert ROUTES.find("HEAD", "/v1/models") == (MODELS, {})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("POST", "/tasks/a/steps/2", "DELETE, GET"),
        ("TRACE", "/v1/openai/models", "DELETE, GET, HEAD, PATCH, POST, PUT"),
    ],
)
def test_another_method_is_told_which_are_allowed(method: str, path: str, allowed: str) -> None:
    with pytest.raises(GatewayError) as refusal:
        ROUTES.find(method, path)
    assert refusal.value.status == 405
    assert refusal.value.headers == {"Allow": allowed}


@pytest.mark.parametrize("path", ["/v1/openai/chat/completions", "/api/v1/openai/chat/completions"])
def test_an_unknown_first_segment_is_a_provider(path: str) -> None:
    found, params = ROUTES.find("POST", path)
    assert found.raw
    assert params == {"provider": "openai", "endpoint": "chat/completions"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/openai",
        "/v1/openai/",
        "/V1/openai/x",
        "/v2/openai/x",
        "/v1/files/x",
        "/api/x/y",
        "/v1/chat/completions/",
    ],
)
def test_there_is_nothing_at_other_paths(path: str) -> None:
    with pytest.raises(NotFound):
        ROUTES.find("POST", path)


def test_two_faces_on_one_path_are_refused() -> None:
    with pytest.raises(ConfigError, match="two faces serve POST /v1/chat/completions"):
        Routes([CHAT, face("/v1/chat/completions")])


@pytest.mark.parametrize(
    "target",
    [
        "//v1/chat/completions", "/v1//chat", "/v1/../keys", "/v1/./x", "/v1/..", "/v1/%2e%2e/keys",
        "/v1/a%2Fb", "/v1/a%5cb", "/v1/%00", "/v1/%252e", "/v1/chat;x", "/v1/a\\b", "/v1/%zz",
        "http://evil/keys", "*", "", "v1/chat", "/v1/models/%2e%2e/keys", "/v1/models/../keys", "/v1/ü",
        "/v1/a b", "/v1/models/a%2f%00",
    ],
)  # fmt: skip
def test_a_path_that_two_readers_could_understand_differently_is_refused(target: str) -> None:
    with pytest.raises(InvalidRequest):
        check_path(target)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/chat/completions?x=/../%2e", "/v1/chat/completions"),
        ("/v1/models/openai%2Fgpt-4o", "/v1/models/openai%2Fgpt-4o"),
        ("/v1/models/gpt-4.1", "/v1/models/gpt-4.1"),
        (
            "/v1/gemini/models/gemini-2.5-pro:generateContent",
            "/v1/gemini/models/gemini-2.5-pro:generateContent",
        ),
        ("/v1/azure/a%20b", "/v1/azure/a%20b"),
        ("/", "/"),
    ],
)
def test_a_plain_path_is_taken_as_it_came(target: str, path: str) -> None:
    assert check_path(target) == path
