"""Where things lie: on this machine, or behind a URL. The one place that knows the difference."""

from didact.core.paths.masks import masked, masked_values
from didact.core.paths.place import Place, RemotePath, RemoteStat, is_url, place, shown

__all__ = [
    "Place", "RemotePath", "RemoteStat", "is_url", "masked", "masked_values", "place", "shown",
]  # fmt: skip
