"""Files, uploads and batches: what lies at a provider and belongs to an organisation here.

Responsible for their faces, for who owns what (`ownership`), and for the place where it is asked for
(`routing`). Responses keep their ids in the same table.
"""

from __future__ import annotations

from .faces import FACES, find_raw_face
from .operations import OPERATIONS

__all__ = ["FACES", "OPERATIONS", "find_raw_face"]
