"""Requests are addressed, signed and refused as Bedrock has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from raven_bedrock.accounts import find_region, read_key, read_options
from raven_bedrock.models import read_model
from raven_bedrock.provider import BedrockProvider

from raven_proxy import hub
from raven_proxy.errors import ConfigError, InvalidRequest, NoActiveKey
from raven_proxy.exchange import Exchange, ReplyHead

from .conftest import HAIKU, KEYS, NOVA, Recording, make_face

Make = Callable[..., Exchange]
JSON = ReplyHead(200, {"content-type": "application/json"})


def test_a_chat_goes_to_converse_in_the_region_of_the_options(make_exchange: Make, provider: Any) -> None:
    exchange = make_exchange(options={"region": "eu-central-1"}, base_url=None)
    outgoing = provider.build_request(exchange)
    assert exchange.candidate is not None
    assert exchange.candidate.upstream.authority == "bedrock-runtime.eu-central-1.amazonaws.com"
    assert outgoing.target == "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse"
    assert outgoing.headers == {"content-type": "application/json", "authorization": "Bearer bedrock-api-key"}
    streamed = make_exchange(b'{"model":"m","stream":true}', base_url="http://127.0.0.1:9/aws/")
    assert provider.build_request(streamed).target.startswith("/aws/model/")
    assert provider.build_request(streamed).target.endswith("/converse-stream")


@pytest.mark.parametrize(
    ("options", "host", "word", "environment", "region"),
    [
        ({"region": "eu-west-1"}, "bedrock-runtime.us-west-2.amazonaws.com", "us-east-2", {}, "eu-west-1"),
        ({}, "bedrock-runtime.us-west-2.amazonaws.com", "us-east-2", {}, "us-west-2"),
        ({}, "bedrock-runtime-fips.us-gov-west-1.amazonaws.com", None, {}, "us-gov-west-1"),
        ({}, "vpce-1.bedrock-runtime.ap-south-1.vpce.amazonaws.com", None, {}, "ap-south-1"),
        ({}, "127.0.0.1", "us-east-2", {"AWS_REGION": "sa-east-1"}, "us-east-2"),
        ({}, "127.0.0.1", "eu", {"AWS_REGION": "sa-east-1"}, "sa-east-1"),
        ({}, "127.0.0.1", None, {"AWS_DEFAULT_REGION": "sa-east-1"}, "sa-east-1"),
        ({}, "127.0.0.1", None, {}, "us-east-1"),
    ],
)
def test_the_region_to_sign_for(
    options: dict[str, Any], host: str, word: str | None, environment: dict[str, str], region: str
) -> None:
    assert find_region(read_options(options), host, word, environment) == region


def test_the_usual_address_is_the_environments_or_the_options() -> None:
    provider = BedrockProvider({"AWS_REGION": "eu-west-3", "HOME": "/"})
    assert provider.base_url("bedrock") == "https://bedrock-runtime.eu-west-3.amazonaws.com"
    assert (
        provider.find_address("bedrock", {"region": "cn-north-1"})
        == "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"regoin": "x"}, "did you mean 'region'"),
        ({"region": "Frankfurt"}, "eu-central-1"),
        ({"access_key_id": {"env": "A"}}, "go together"),
        ({"access_key_id": "AKIA"}, "secret is written|access_key_id"),
        ({"access_key_id": {"env": "RAVEN_NO_1"}, "secret_access_key": {"env": "RAVEN_NO_2"}}, "RAVEN_NO_1"),
    ],
)
def test_wrong_options_are_said_at_start(provider: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        provider.check_options("bedrock", options)


# -- who calls ------------------------------------------------------------------------


def signed_by(outgoing: Any, host: str, credentials: Credentials, region: str) -> bool:
    """Sign what was sent with botocore; say whether it comes to the same."""
    names = outgoing.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = {name: outgoing.headers[name] for name in names if name in outgoing.headers}
    request = AWSRequest(
        outgoing.method, f"https://{host}{outgoing.target}", headers=headers, data=outgoing.body
    )
    request.headers["host"] = host
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(credentials, "bedrock", region)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    return bool(outgoing.headers["authorization"].endswith(f"Signature={signature}"))


def test_keys_in_the_credential_sign_what_is_sent(make_exchange: Make, provider: Any) -> None:
    exchange = make_exchange(secret=KEYS + ":IQoJtoken==", base_url="http://127.0.0.1:8123")
    outgoing = provider.build_request(exchange)
    keys = read_key(KEYS)
    assert keys is not None
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, "IQoJtoken==")
    assert outgoing.headers["x-amz-security-token"] == "IQoJtoken=="
    assert signed_by(outgoing, "127.0.0.1:8123", credentials, "us-east-1")
    assert exchange.candidate is not None
    head = exchange.candidate.upstream.write_request(outgoing)
    assert b"\r\nhost: 127.0.0.1:8123\r\n" in head or b"host: 127.0.0.1:8123\r\n" in head


def test_keys_in_the_options_and_in_the_environment(
    make_exchange: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVEN_TEST_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("RAVEN_TEST_SECRET", "s3cret")
    options = {"access_key_id": {"env": "RAVEN_TEST_ID"}, "secret_access_key": {"env": "RAVEN_TEST_SECRET"}}
    environment = {"AWS_ACCESS_KEY_ID": "ASIAENVIRONMENT00000", "AWS_SECRET_ACCESS_KEY": "x",
                   "AWS_SESSION_TOKEN": "t"}  # fmt: skip
    provider = BedrockProvider(environment)
    told = provider.build_request(make_exchange(secret=None, options=options)).headers
    assert "Credential=AKIAIOSFODNN7EXAMPLE/" in told["authorization"]
    assert "x-amz-security-token" not in told
    told = provider.build_request(make_exchange(secret=None)).headers
    assert "Credential=ASIAENVIRONMENT00000/" in told["authorization"]
    assert told["x-amz-security-token"] == "t"
    provider = BedrockProvider(environment | {"AWS_BEARER_TOKEN_BEDROCK": "bearer"})
    assert provider.build_request(make_exchange(secret=None)).headers["authorization"] == "Bearer bearer"
    assert provider.build_request(make_exchange(secret="own")).headers["authorization"] == "Bearer own"


def test_without_any_credential_nothing_is_sent(make_exchange: Make, provider: Any) -> None:
    assert provider.needs_key("bedrock") is False
    with pytest.raises(NoActiveKey, match="access_key_id"):
        provider.build_request(make_exchange(secret=None))


def test_the_callers_own_aws_headers_do_not_go_along(make_exchange: Make, provider: Any) -> None:
    headers = {
        "x-amz-date": "20000101T000000Z",
        "x-amz-target": "a",
        "amz-sdk-request": "1",
        "user-agent": "me",
        "anthropic-version": "2023-06-01",
        "authorization": "Bearer rk_live_x",
        "x-amzn-bedrock-trace": "ENABLED",
    }
    sent = provider.build_request(make_exchange(headers=headers)).headers
    assert sent == {
        "content-type": "application/json",
        "user-agent": "me",
        "x-amzn-bedrock-trace": "ENABLED",
        "authorization": "Bearer bedrock-api-key",
    }


@pytest.mark.parametrize(
    ("model", "family", "version"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic", (4, 5)),
        ("anthropic.claude-3-sonnet-20240229-v1:0", "anthropic", (3, 0)),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "anthropic", (3, 7)),
        ("anthropic.claude-opus-4-20250514-v1:0", "anthropic", (4, 0)),
        ("global.anthropic.claude-sonnet-5", "anthropic", (5, 0)),
        ("anthropic.claude-v2:1", "anthropic", (0, 0)),
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
            "amazon",
            (0, 0),
        ),
        ("arn:aws:bedrock:us-east-1::foundation-model/cohere.command-r-v1:0", "cohere", (0, 0)),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "meta", (0, 0)),
    ],
)
def test_model_ids_tell_family_and_version(model: str, family: str, version: tuple[int, int]) -> None:
    found = read_model(model, "meta")
    assert (found.family, found.version) == (family, version)


# -- what is dropped, and errors ------------------------------------------------------


def test_strict_clients_are_told_what_would_be_dropped(make_exchange: Make, provider: Any) -> None:
    request = hub.ChatRequest(
        model=HAIKU, messages=[hub.Message(role="user", parts=[hub.Text(text="Hi")])], seed=1, temperature=1.5
    )
    face = make_face(request)
    exchange = make_exchange(face=face)
    provider.build_request(exchange)
    assert exchange.response_headers == {"X-Raven-Adjusted": "temperature"}
    with pytest.raises(InvalidRequest, match="seed") as caught:
        provider.build_request(make_exchange(face=face, headers={"x-raven-strict": "true"}))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "seed")


@pytest.mark.parametrize(
    ("name", "status", "client", "kind"),
    [
        ("ThrottlingException:http://internal.amazon.com/coral/", 429, 429, "rate_limit_error"),
        ("ThrottlingException", 400, 429, "rate_limit_error"),
        ("ModelNotReadyException", 429, 429, "rate_limit_error"),
        ("ValidationException", 400, 400, "invalid_request_error"),
        ("ServiceQuotaExceededException", 400, 400, "invalid_request_error"),
        ("AccessDeniedException", 403, 502, "upstream_error"),
        ("ExpiredTokenException", 403, 502, "upstream_error"),
        ("UnrecognizedClientException", 403, 502, "upstream_error"),
        ("ResourceNotFoundException", 404, 404, "not_found_error"),
        ("ModelTimeoutException", 408, 408, "invalid_request_error"),
        ("ModelErrorException", 424, 424, "invalid_request_error"),
        ("InternalServerException", 500, 500, "upstream_error"),
        ("ServiceUnavailableException", 503, 503, "upstream_error"),
        ("SomethingNewException", 418, 418, "invalid_request_error"),
        ("", 403, 502, "upstream_error"),
    ],
)
def test_errors_keep_their_status_but_for_the_gateways_own_credentials(
    make_exchange: Make, provider: Any, name: str, status: int, client: int, kind: str
) -> None:
    head = ReplyHead(status, {"content-type": "application/json", "x-amzn-errortype": name})
    error = provider.read_refusal(make_exchange(), head, b'{"message":"It says why: bedrock-api-key"}')
    assert (error.status, error.type) == (client, kind)
    assert error.message.endswith("It says why: [redacted]")
    assert error.metadata["type"] == name.partition(":")[0] if name else "type" not in error.metadata
    assert error.retryable == (client in {408, 429} or client >= 500)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"Message":"Missing Authentication Token","__type":"com.amazon#UnrecognizedClientException"}',
            "Missing",
        ),
        (b"<html>Forbidden</html>", "The provider"),
        (b"", "The provider"),
        (b'{"a":1}', "unknown error"),
    ],
)
def test_error_bodies_of_other_shapes(make_exchange: Make, provider: Any, body: bytes, message: str) -> None:
    error = provider.read_refusal(make_exchange(), ReplyHead(400, {}), body)
    assert message in error.message
    assert error.status == (502 if b"Unrecognized" in body else 400)


def test_recorded_errors(make_exchange: Make, provider: Any, recordings: list[Recording]) -> None:
    errors = [one for one in recordings if one.response["status"] >= 400]
    assert len(errors) >= 2
    for recording in errors:
        head = ReplyHead(recording.response["status"], recording.response["headers"])
        error = provider.read_refusal(make_exchange(), head, recording.body())
        said = msgspec.json.decode(recording.body())["message"]
        assert said in error.message
        assert error.status == (502 if head.status == 403 else head.status)


def test_another_dialect_that_cannot_be_translated_is_refused(make_exchange: Make, provider: Any) -> None:
    with pytest.raises(InvalidRequest, match="choose another model"):
        provider.build_request(make_exchange(model=NOVA, face=make_face(client_side=None)))


def test_whoever_is_throttled_is_told_to_wait(make_exchange: Make, provider: Any) -> None:
    """Also where Amazon's status was a 400: a 429 always has a Retry-After."""
    head = ReplyHead(400, {"x-amzn-errortype": "ThrottlingException"})
    assert provider.read_refusal(make_exchange(), head, b"{}").headers == {"Retry-After": "1"}
