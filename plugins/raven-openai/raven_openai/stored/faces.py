"""The faces of files, uploads and batches, and the little that the gateway judges of their requests.

Shapes: OpenAI's API reference, files, uploads, batch.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import splice
from raven_proxy.errors import InvalidRequest, envelope
from raven_proxy.faces import Call, Dialect, Face, read_nothing

from .places import read_place

__all__ = ["BATCHES", "FACES", "FILES", "UPLOADS", "BatchCall", "find_raw_face"]

FILES = Dialect("openai.files", envelope)
UPLOADS = Dialect("openai.uploads", envelope)
BATCHES = Dialect("openai.batches", envelope)


class BatchCall(Call):
    """A new batch; `input_file_id` says where it has to run. What it will cost is `unbounded`: nobody has
    read the file.
    """

    input_file_id: str | None = None
    unbounded: bool = True


class _Batch(msgspec.Struct):
    input_file_id: str | None = None


_decode_batch = msgspec.json.Decoder(_Batch).decode


def read_batch(body: bytes) -> Call:
    """Judge a request for a new batch. Raises InvalidRequest."""
    members = splice.scan(body)
    try:
        batch = _decode_batch(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise InvalidRequest(
            "input_file_id: send the id of an uploaded file as a string.", param="input_file_id"
        ) from None
    return BatchCall(members=members, input_file_id=batch.input_file_id)


def read_json(body: bytes) -> Call:
    """Judge a JSON object of which the gateway needs nothing. Raises InvalidRequest."""
    return Call(members=splice.scan(body))


def _face(name: str, method: str, endpoint: str, dialect: Dialect, **fields: Any) -> Face:
    reads = method == "GET"
    fields = {"read_call": read_nothing, "json_body": False, **fields}
    return Face(
        name=f"openai-{name}",
        path=f"/v1/{endpoint}",
        methods=(method,),
        dialect=dialect,
        scope="files:read" if reads else "files:write",
        endpoint=endpoint,
        needs_model=False,
        **fields,
    )


_JSON = {"read_call": read_json, "json_body": True}

FACES = (
    _face("files-create", "POST", "files", FILES),
    _face("files-list", "GET", "files", FILES),
    _face("files-retrieve", "GET", "files/{file_id}", FILES),
    _face("files-delete", "DELETE", "files/{file_id}", FILES),
    _face("files-content", "GET", "files/{file_id}/content", FILES),
    _face("uploads-create", "POST", "uploads", UPLOADS, **_JSON),
    _face("uploads-parts", "POST", "uploads/{upload_id}/parts", UPLOADS),
    _face("uploads-complete", "POST", "uploads/{upload_id}/complete", UPLOADS, **_JSON),
    _face("uploads-cancel", "POST", "uploads/{upload_id}/cancel", UPLOADS),
    _face("batches-create", "POST", "batches", BATCHES, read_call=read_batch, json_body=True),
    _face("batches-list", "GET", "batches", BATCHES),
    _face("batches-retrieve", "GET", "batches/{batch_id}", BATCHES),
    _face("batches-cancel", "POST", "batches/{batch_id}/cancel", BATCHES),
)

_DIALECTS = {"file": FILES, "upload": UPLOADS, "batch": BATCHES}


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of a vendor's own endpoint for stored things; None for other endpoints.

    A method or action that is not known here still has a face, so that no way leads around the owner.
    """
    place = read_place(endpoint)
    if place is None:
        return None
    method = "GET" if method.upper() == "HEAD" else method.upper()
    reader = read_batch if (place.kind, place.id, method) == ("batch", "", "POST") else read_nothing
    return Face(
        name=f"openai-{place.kind}-raw",
        path="",
        methods=(method,),
        dialect=_DIALECTS[place.kind],
        scope="files:read" if method == "GET" else "files:write",
        endpoint=endpoint,
        read_call=reader,
        json_body=False,
        raw=True,
        needs_model=False,
    )
