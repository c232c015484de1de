"""Signatures are AWS's: its published examples, and whatever botocore signs."""

from __future__ import annotations

from hashlib import sha256

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from raven_bedrock import signing
from raven_bedrock.models import encode_id
from raven_bedrock.signing import Keys, Signer, Stamp

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
STAMP = Stamp("20150830T123600Z")
HOST = "bedrock-runtime.eu-central-1.amazonaws.com"
PLAIN = {"host": "example.amazonaws.com", "x-amz-date": STAMP.text}
FORM = {"content-type": "application/x-www-form-urlencoded", **PLAIN}
LETTERS = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "signature"),
    [
        ("GET", "/", PLAIN, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", PLAIN, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET", "/?Param2=value2&Param1=value1", PLAIN, b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET", "/?Param1=value2&Param1=Value1", PLAIN, b"",
            "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
        ),
        (
            "GET", f"/{LETTERS}", PLAIN, b"",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "POST", "/", FORM, b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)  # fmt: skip
def test_the_published_examples_come_out(
    method: str, target: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signer = Signer(Keys("AKIDEXAMPLE", SECRET), "us-east-1", "service")
    value = signer.authorize(method, target, headers, sha256(body).hexdigest(), STAMP)
    assert value == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={';'.join(headers)}, Signature={signature}"
    )


def botocore_signs(method: str, target: str, kind: str, body: bytes, token: str, stamp: Stamp) -> str:
    headers = {"content-type": kind, "x-amz-content-sha256": sha256(body).hexdigest()}
    if token:
        headers["x-amz-security-token"] = token
    request = AWSRequest(method, f"https://{HOST}{target}", headers=headers, data=body)
    request.context["timestamp"] = stamp.text
    auth = SigV4Auth(Credentials("AKIDEXAMPLE", SECRET, token or None), "bedrock", "eu-central-1")
    del request.headers["x-amz-security-token"]
    auth._modify_request_before_signing(request)
    text = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, text), request)
    auth._inject_signature_to_request(request, signature)
    return str(request.headers["Authorization"])


MODELS = st.one_of(
    st.sampled_from(
        [
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/ab12cd34",
        ]
    ),
    st.text(min_size=1, max_size=30, alphabet=st.characters(codec="utf-8")).filter(lambda s: s.strip("./")),
)


@given(
    MODELS,
    st.sampled_from(["converse", "converse-stream", "invoke"]),
    st.sampled_from(["", "?a=1", "?b=2&a=1&a=0", "?x", "?a=%20b&A=~"]),
    st.sampled_from(["application/json", "application/json;  charset=utf-8"]),
    st.binary(max_size=200),
    st.sampled_from(["", "IQoJb3JpZ2luX2VjE//example=="]),
)
def test_a_request_is_signed_as_botocore_signs_it(
    model: str, operation: str, query: str, kind: str, body: bytes, token: str
) -> None:
    target = f"/model/{encode_id(model)}/{operation}{query}"
    signed = Signer(Keys("AKIDEXAMPLE", SECRET, token), "eu-central-1").sign(
        "POST", HOST, target, kind, body, STAMP
    )
    assert signed["authorization"] == botocore_signs("POST", target, kind, body, token, STAMP)
    assert signed["x-amz-date"] == STAMP.text
    assert signed.get("x-amz-security-token", "") == token
    assert "host" not in signed


def test_the_path_is_signed_doubly_encoded() -> None:
    auth = SigV4Auth(Credentials("A", "b"), "bedrock", "eu-central-1")
    request = AWSRequest("POST", f"https://{HOST}/model/a%3A0/converse")
    request.context["timestamp"] = STAMP.text
    assert "/model/a%253A0/converse" in auth.canonical_request(request)
    assert encode_id("arn:aws:x/y") == "arn%3Aaws%3Ax%2Fy"


def test_the_key_of_another_day_is_derived_anew() -> None:
    signer = Signer(Keys("AKIDEXAMPLE", SECRET), "eu-central-1")
    for day in ("20150830", "20150831", "20150830"):
        stamp = Stamp(f"{day}T000000Z")
        got = signer.sign("POST", HOST, "/a", "text/plain", b"", stamp)["authorization"]
        assert got == botocore_signs("POST", "/a", "text/plain", b"", "", stamp)


def test_this_moment_is_written_as_aws_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing.time, "gmtime", lambda: (2026, 1, 2, 3, 4, 5, 4, 2, 0))
    assert Stamp.now() == Stamp("20260102T030405Z")


def test_keys_are_never_printed() -> None:
    assert SECRET not in repr(Keys("AKIDEXAMPLE", SECRET))
