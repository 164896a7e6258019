"""Where things lie: on this machine, or behind a URL. The one place that knows the difference."""

from didact.core.paths.masks import masked, masked_values
from didact.core.paths.place import (
    Given,
    Place,
    each,
    inside,
    is_url,
    listed,
    local,
    place,
    shown,
)  # fmt: skip
from didact.core.paths.remote_path import RemotePath, RemoteStat

__all__ = [
    "Given", "Place", "RemotePath", "RemoteStat", "each", "inside", "is_url", "listed", "local",
    "masked", "masked_values", "place", "shown",
]  # fmt: skip
