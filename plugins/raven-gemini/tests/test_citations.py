"""What a text rests on, as Google says it in two places."""

from __future__ import annotations

from raven_proxy import hub

from .builders import chunk, stream, whole


def test_citations_point_at_characters() -> None:
    """Byte offsets in a text with wide letters; a stretch with two sources has two citations."""
    text = "Ünïcödé here. Second."
    start, end = len("Ünïcödé here. ".encode()), len(text.encode())
    grounding = {
        "groundingChunks": [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"web": {"uri": "https://b.example"}},
            {"retrievedContext": {"title": "Doc", "text": "what it says"}},
        ],
        "groundingSupports": [
            {
                "segment": {"startIndex": start, "endIndex": end, "text": "Second."},
                "groundingChunkIndices": [0, 1],
            },
            {"segment": {"endIndex": 10, "text": "Ünïcödé"}, "groundingChunkIndices": [2, 99, -1]},
        ],
    }
    document = chunk({"text": text}, finish="STOP", candidate={"groundingMetadata": grounding})
    part = whole(document).choices[0].parts[0]
    assert isinstance(part, hub.Text)
    found = [(one.kind, one.url, one.title, text[one.start or 0 : one.end]) for one in part.annotations]
    assert found == [
        ("url", "https://a.example", "A", "Second."),
        ("url", "https://b.example", None, "Second."),
        ("document", None, "Doc", "Ünïcödé"),
    ]
    again = stream(chunk({"text": text}, candidate={"groundingMetadata": grounding}), document)
    assert sum(isinstance(event, hub.AnnotationAdded) for event in again) == 3  # said twice, told once


def test_sources_without_stretches_and_recitations_are_citations_too() -> None:
    """Google may name sources alone; and what a text was taken from."""
    grounding = {"groundingChunks": [{"web": {"uri": "https://a.example"}}]}
    cited = {
        "citationSources": [{"startIndex": 0, "endIndex": 2, "uri": "https://c.example", "license": "mit"}]
    }
    document = chunk({"text": "Hi there"}, finish="STOP", candidate={"groundingMetadata": grounding})
    document["candidates"][0]["citationMetadata"] = cited
    part = whole(document).choices[0].parts[0]
    assert isinstance(part, hub.Text)
    assert [(one.url, one.start, one.end) for one in part.annotations] == [
        ("https://a.example", None, None),
        ("https://c.example", 0, 2),
    ]
