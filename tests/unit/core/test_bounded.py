"""Files that are read up to a length."""

import pytest

from didact.core.bounded import read_bounded


def test_a_file_of_settings_is_read_up_to_a_length(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"x" * 2**20)
    assert read_bounded(path, longest=2**20) == b"x" * 2**20
    with pytest.raises(ValueError, match="more than 0.5 MiB; expected settings, not data"):
        read_bounded(path, longest=2**19)
