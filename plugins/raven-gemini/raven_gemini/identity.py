"""Google's credentials as people store them, and the requests that turn them into access tokens.

Two kinds of JSON (google.auth: "service_account", "authorized_user"); anything else is an access token
already. Signing needs `cryptography`, which is imported only here and only then.
"""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import msgspec

__all__ = [
    "GOOGLE_TOKENS",
    "Identity",
    "Token",
    "is_identity",
    "read_identity",
    "read_token",
    "write_token_request",
]

GOOGLE_TOKENS = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_LIFETIME_S = 3600


class Identity(msgspec.Struct, frozen=True):
    """A service account (with a private key) or a user (with a refresh token)."""

    type: str
    project_id: str | None = None
    client_email: str = ""
    private_key: str = ""
    private_key_id: str | None = None
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""
    quota_project_id: str | None = None

    def __repr__(self) -> str:
        return f"Identity(type={self.type!r})"


class Token(msgspec.Struct, frozen=True):
    """An access token; it is good for `expires_in` seconds."""

    access_token: str
    expires_in: int = _LIFETIME_S

    def __repr__(self) -> str:
        return "Token()"


def is_identity(key: str) -> bool:
    """Say whether a key is a JSON document rather than an access token."""
    return key.lstrip().startswith("{")


def read_identity(key: str) -> Identity:
    """Read a credential's JSON. Raises ValueError that says what is wrong and nothing of the secret."""
    try:
        found = msgspec.json.decode(key, type=Identity)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError("it is no JSON of a service account") from None
    if found.type == "service_account":
        is_whole = bool(found.client_email and found.private_key)
    elif found.type == "authorized_user":
        is_whole = bool(found.client_id and found.client_secret and found.refresh_token)
    else:
        raise ValueError('its "type" must be "service_account" or "authorized_user"')
    if not is_whole:
        raise ValueError("a field is missing in it")
    return found


def write_token_request(identity: Identity, token_uri: str, now_s: float) -> bytes:
    """Write the form that asks for a token (RFC 7523 section 2.1, RFC 6749 section 6). Raises ValueError."""
    if identity.type == "authorized_user":
        form = {
            "grant_type": "refresh_token",
            "client_id": identity.client_id,
            "client_secret": identity.client_secret,
            "refresh_token": identity.refresh_token,
        }
    else:
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": _assert(identity, token_uri, int(now_s)),
        }
    return urlencode(form).encode()


def read_token(body: bytes) -> Token:
    """Read the answer. Raises ValueError."""
    try:
        return msgspec.json.decode(body, type=Token)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError("the token endpoint answered something else") from None


def _assert(identity: Identity, audience: str, now_s: int) -> str:
    """Sign an assertion (RFC 7515, RS256) with the service account's key."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    head = {"alg": "RS256", "typ": "JWT", "kid": identity.private_key_id}
    claims = {
        "iss": identity.client_email,
        "scope": _SCOPE,
        "aud": audience,
        "iat": now_s,
        "exp": now_s + _LIFETIME_S,
    }
    try:
        key = serialization.load_pem_private_key(identity.private_key.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("its private key cannot be read")
    text = f"{_encode(msgspec.json.encode(head))}.{_encode(msgspec.json.encode(claims))}"
    return f"{text}.{_encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
