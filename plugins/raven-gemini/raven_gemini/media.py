"""Images, documents and sound as parts of Google's: bytes inline, links as file data."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

__all__ = ["write_audio", "write_file", "write_image"]

_SOUND_TYPES = {"audio/mpeg": "audio/mp3", "audio/x-wav": "audio/wav", "audio/wave": "audio/wav"}
_SOUNDS = {"mp3": "audio/mp3", "pcm16": "audio/pcm", "pcm": "audio/pcm", "m4a": "audio/m4a"}
_EXTENSIONS = {
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp",
    "heic": "image/heic", "heif": "image/heif", "pdf": "application/pdf", "txt": "text/plain",
    "md": "text/plain", "csv": "text/csv", "html": "text/html", "json": "application/json",
    "mp4": "video/mp4", "mov": "video/mov", "webm": "video/webm", "mpeg": "video/mpeg", "wav": "audio/wav",
    "mp3": "audio/mp3", "flac": "audio/flac", "ogg": "audio/ogg",
}  # fmt: skip
_VIDEO_HOSTS = ("youtube.com", "youtu.be")

Json = dict[str, Any]


def write_image(image: hub.Image, *, is_vertex: bool) -> Json:
    """Write an image. Raises InvalidRequest for one that Google cannot reach."""
    return _write(image.media, "image/jpeg", is_vertex=is_vertex)


def write_file(file: hub.File, *, is_vertex: bool) -> Json:
    """Write a document; a plain text is text."""
    if file.text is not None:
        return {"text": file.text}
    name = (file.filename or "").rpartition(".")[2].lower()
    return _write(file.media, _EXTENSIONS.get(name, "application/pdf"), is_vertex=is_vertex)


def write_audio(audio: hub.Audio, *, is_vertex: bool) -> Json | None:
    """Write sound; one that a model made is known by its transcript alone. None where nothing is left."""
    media = audio.media
    if media.data is None and media.url is None and media.file_id is None:
        return {"text": audio.transcript} if audio.transcript else None
    usual = _SOUNDS.get(audio.format or "", f"audio/{audio.format or 'wav'}")
    if media.media_type in _SOUND_TYPES:  # Google's names for them
        media = msgspec.structs.replace(media, media_type=_SOUND_TYPES[media.media_type])
    return _write(media, usual, is_vertex=is_vertex)


def _write(media: hub.Media, usual: str, *, is_vertex: bool) -> Json:
    if media.data is not None:
        kind = media.media_type or hub.sniff(media.data) or usual
        return {"inlineData": {"mimeType": kind, "data": media.data}}
    uri = media.url or _file_uri(media.file_id or "")
    if uri.startswith("gs://") and not is_vertex:
        raise InvalidRequest(
            "messages: gs:// links work on Vertex AI only; send the bytes or an https link.", param="messages"
        )
    if uri.startswith("s3://"):
        raise InvalidRequest(
            "messages: s3:// links do not work with Gemini; send the bytes.", param="messages"
        )
    return {"fileData": _file_data(uri, media.media_type, usual, is_vertex=is_vertex)}


def _file_data(uri: str, kind: str | None, usual: str, *, is_vertex: bool) -> Json:
    parts = urlsplit(uri)
    if kind is None:
        kind = _EXTENSIONS.get(parts.path.rpartition(".")[2].lower())
    if kind is None and (parts.hostname or "").removeprefix("www.").endswith(_VIDEO_HOSTS):
        kind = "video/mp4"
    # Google's own files have a type already; Vertex AI wants one for every link.
    if kind is None and (is_vertex or parts.hostname != "generativelanguage.googleapis.com"):
        kind = usual
    return {"mimeType": kind, "fileUri": uri} if kind is not None else {"fileUri": uri}


def _file_uri(file_id: str) -> str:
    if file_id.startswith("files/"):
        return f"https://generativelanguage.googleapis.com/v1beta/{file_id}"
    if file_id.startswith(("https://", "gs://")):
        return hub.check_link(file_id, param="messages")
    raise InvalidRequest(
        f"messages: the file {file_id[:100]!r} is not one of Google's; send its bytes.", param="messages"
    )
