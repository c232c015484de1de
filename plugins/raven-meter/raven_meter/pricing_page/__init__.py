"""The page `/docs/pricing`: every model with its context window and prices, to be read by people.

Responsible for its four routes: the page, its style, its script, and the document that the script shows.
Static but for the last one, which is built once: a reload makes a new plugin. No template, no inline script.
"""

from .rows import Row, build
from .serving import faces

__all__ = ["Row", "build", "faces"]
