"""Images, sound and moderation: OpenAI's endpoints that are neither text generation nor storage.

Responsible for their faces, for reading their forms, and for metering replies that are mostly bytes.
"""

from __future__ import annotations

from raven_proxy.faces import Face

from .calls import (
    read_image_edit,
    read_images,
    read_moderation,
    read_recording,
    read_speech,
    read_variation,
)
from .operations import IMAGES, MODERATIONS, OPERATIONS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS

__all__ = ["FACES", "OPERATIONS"]

FACES = (
    Face(
        name="openai-images",
        path="/v1/images/generations",
        dialect=IMAGES,
        scope="images:write",
        endpoint="images/generations",
        read_call=read_images,
    ),
    Face(
        name="openai-images-edits",
        path="/v1/images/edits",
        dialect=IMAGES,
        scope="images:write",
        endpoint="images/edits",
        read_call=read_image_edit,
        json_body=False,
    ),
    Face(
        name="openai-images-variations",
        path="/v1/images/variations",
        dialect=IMAGES,
        scope="images:write",
        endpoint="images/variations",
        read_call=read_variation,
        json_body=False,
    ),
    Face(
        name="openai-speech",
        path="/v1/audio/speech",
        dialect=SPEECH,
        scope="audio:write",
        endpoint="audio/speech",
        read_call=read_speech,
    ),
    Face(
        name="openai-transcriptions",
        path="/v1/audio/transcriptions",
        dialect=TRANSCRIPTIONS,
        scope="audio:write",
        endpoint="audio/transcriptions",
        read_call=read_recording,
        json_body=False,
    ),
    Face(
        name="openai-translations",
        path="/v1/audio/translations",
        dialect=TRANSLATIONS,
        scope="audio:write",
        endpoint="audio/translations",
        read_call=read_recording,
        json_body=False,
    ),
    Face(
        name="openai-moderations",
        path="/v1/moderations",
        dialect=MODERATIONS,
        scope="chat:write",
        endpoint="moderations",
        read_call=read_moderation,
    ),
)
