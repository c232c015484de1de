"""Tools, the choice among them and the answer's shape are said in Converse's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .builders import LLAMA, TOOLS, ask, assistant, call, result, text, user, write
from .conftest import NOVA, Check

Sent = Callable[[hub.ChatRequest], dict[str, Any]]


@pytest.mark.parametrize(
    ("choice", "names", "said"),
    [
        (None, ["f", "g", "h"], None),
        (hub.ToolChoice(mode="auto"), ["f", "g", "h"], {"auto": {}}),
        (hub.ToolChoice(mode="required"), ["f", "g", "h"], {"any": {}}),
        (hub.ToolChoice(mode="named", names=["g"]), ["f", "g", "h"], {"tool": {"name": "g"}}),
        (hub.ToolChoice(mode="named", names=["g", "h"]), ["g", "h"], {"any": {}}),
    ],
)
def test_the_choice_of_tools(
    sent: Sent, choice: hub.ToolChoice | None, names: list[str], said: dict[str, Any] | None
) -> None:
    config = sent(ask(tools=TOOLS, tool_choice=choice))["toolConfig"]
    assert [tool["toolSpec"]["name"] for tool in config["tools"]] == names
    assert config.get("toolChoice") == said


@pytest.mark.parametrize("tools", [TOOLS, []])
def test_without_tools_there_is_a_config_only_where_the_history_wants_one(
    sent: Sent, tools: list[Any]
) -> None:
    none = hub.ToolChoice(mode="none")
    assert "toolConfig" not in sent(ask(tools=tools, tool_choice=none))
    history = [user(text("Go")), assistant(call("a")), result("a", text("1"))]
    (tool,) = sent(ask(*history, tools=tools, tool_choice=none))["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] not in {"f", "g", "h"}


def test_one_call_at_a_time_is_asked_of_claude_and_noted_for_others(sent: Sent) -> None:
    body = sent(ask(tools=TOOLS, tool_choice=hub.ToolChoice(mode="required"), parallel_tool_calls=False))
    assert body["additionalModelRequestFields"] == {
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True}
    }
    assert "toolChoice" not in body["toolConfig"]
    request = ask(tools=TOOLS, parallel_tool_calls=False, model=NOVA)
    sent(request)
    assert request.dropped == ["parallel_tool_calls"]


def test_strict_tools_where_they_are_known_to_work(sent: Sent) -> None:
    strict = [hub.Tool(name="f", strict=True)]
    assert sent(ask(tools=strict))["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
    request = ask(tools=strict, model=NOVA)
    assert "strict" not in sent(request)["toolConfig"]["tools"][0]["toolSpec"]
    assert request.dropped == ["strict"]


def test_amazons_own_tools_pass_and_other_vendors_are_refused(sent: Sent) -> None:
    native = {"systemTool": {"name": "nova_code_interpreter"}}
    assert sent(ask(server_tools=[native], model=NOVA))["toolConfig"]["tools"] == [native]
    with pytest.raises(InvalidRequest, match=r"tools\[0\]: 'web_search'"):
        write(ask(server_tools=[{"type": "web_search_20250305", "name": "web_search"}]))
    with pytest.raises(InvalidRequest, match="free text"):
        write(ask(tools=[hub.Tool(name="f", custom=True)]))


# -- the shape of the answer ---------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
SHAPE = hub.OutputFormat(mode="json_schema", name="thing", schema=SCHEMA, description="A thing.")


def test_a_schema_goes_as_such_where_the_model_has_it(sent: Sent) -> None:
    structure = sent(ask(output_format=SHAPE))["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert structure["name"] == "thing"
    assert (
        structure["schema"]
        == '{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}'
    )


@pytest.mark.parametrize(
    ("model", "tools", "choice"),
    [
        (NOVA, [], {"tool": {"name": "json"}}),
        ("anthropic.claude-3-haiku-20240307-v1:0", [], {"tool": {"name": "json"}}),
        (LLAMA, [], {"any": {}}),
        (NOVA, [hub.Tool(name="f")], {"any": {}}),
    ],
)
def test_elsewhere_a_tool_stands_for_the_schema(
    check_converse: Check, model: str, tools: list[hub.Tool], choice: dict[str, Any]
) -> None:
    written = write(ask(output_format=SHAPE, model=model, tools=tools))
    config = check_converse(written.body)["toolConfig"]
    assert config["tools"][-1]["toolSpec"]["inputSchema"] == {"json": SCHEMA}
    assert (config["toolChoice"], written.json_tool) == (choice, "json")


def test_the_tool_for_the_schema_gets_a_name_of_its_own() -> None:
    written = write(ask(output_format=SHAPE, model=NOVA, tools=[hub.Tool(name="json")]))
    assert written.json_tool == "json_answer"


def test_any_json_is_asked_for_in_words(sent: Sent) -> None:
    body = sent(ask(output_format=hub.OutputFormat(mode="json_object")))
    assert "JSON object" in body["system"][0]["text"]
    assert "toolConfig" not in body
