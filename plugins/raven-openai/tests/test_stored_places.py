"""No way of writing a path leads around the owner of what it addresses."""

from __future__ import annotations

import pytest
from raven_openai.registry import FACES, find_raw_face
from raven_openai.stored.places import Place, read_place


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("files", Place("file")),
        ("files/", Place("file")),
        ("files/file-1", Place("file", "file-1")),
        ("files/file-1/content", Place("file", "file-1", "content")),
        ("files/File-1", Place("file", "File-1")),
        ("%66iles/file%2D1", Place("file", "file-1")),
        ("Files/file-1", Place("file", "file-1")),
        ("v1/files/file-1", Place("file", "file-1")),
        ("openai/files/file-1", Place("file", "file-1")),
        ("openai/v1/batches/batch_1/cancel", Place("batch", "batch_1", "cancel")),
        ("uploads/upload_1/parts", Place("upload", "upload_1", "parts")),
        ("files/file-1/a/b", Place("file", "file-1", "a/b")),
        ("chat/completions", None),
        ("vector_stores/vs_1/files/file-1", None),
        ("profiles", None),
        ("filesystem/x", None),
    ],
)
def test_a_path_is_read_however_it_is_written(endpoint: str, place: Place | None) -> None:
    assert read_place(endpoint) == place
    for method in ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT"):
        face = find_raw_face(method, endpoint)
        if place is None:
            assert face is None or not face.dialect.name.startswith("openai.files")
            continue
        assert face is not None
        assert face.raw
        assert not face.needs_model
        assert face.dialect.name in {"openai.files", "openai.uploads", "openai.batches"}
        assert face.scope == ("files:read" if method in {"GET", "HEAD"} else "files:write")


def test_each_face_of_stored_things_needs_no_model_and_its_own_scope() -> None:
    ours = [f for f in FACES if f.path.startswith(("/v1/files", "/v1/uploads", "/v1/batches"))]
    assert len(ours) == 13
    for face in ours:
        assert not face.needs_model
        assert face.scope == ("files:read" if face.methods == ("GET",) else "files:write")
        assert read_place(face.endpoint) is not None
