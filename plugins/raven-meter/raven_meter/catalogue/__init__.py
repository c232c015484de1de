"""The catalogue: which models there are, what fits into them and what they cost.

The packaged file is made by `raven-proxy catalogue refresh` from a maintained price library; the running
gateway imports that library never. The operator's `model_catalog.json` goes over it.
"""

from .entries import CatalogueFile, ModelEntry, ProviderEntry, Rates
from .lookup import PackagedCatalogue, load_packaged

__all__ = ["CatalogueFile", "ModelEntry", "PackagedCatalogue", "ProviderEntry", "Rates", "load_packaged"]
