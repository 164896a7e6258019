"""A model in a bucket is copied once into the cache, and is the model that it was."""

import logging
import os
from pathlib import Path

import pytest

from didact.core.errors import DataError
from didact.models.folder import digest, find

pytestmark = pytest.mark.s3


def _model(folder):
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def test_a_model_is_copied_once_and_anew_when_it_changes(s3, tmp_path, caplog):
    local = _model(tmp_path / "tiny")
    s3.put_tree(tmp_path)
    url = f"{s3.url}/tiny"
    with caplog.at_level(logging.WARNING):
        path = find(url)
    assert path.is_relative_to(os.environ["DIDACT_CACHE"])
    assert caplog.messages == [f"{url}: copied into {path.parent} (37 bytes)"]
    assert digest(path) == digest(local)
    found = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert found == {"config.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"}
    s3.wire.seen.clear()
    assert find(url) == path
    assert not s3.wire.ranges("tiny/")  # looked at, not read
    s3.put("tiny/tokenizer.json", b'{"another": 1}')
    assert find(url) != path


def test_pickles_are_refused_and_what_is_no_model_is_named(s3, tmp_path):
    _model(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").unlink()
    s3.put_tree(tmp_path)
    with pytest.raises(DataError, match=r"pytorch_model\.bin: pickled weights can run code"):
        find(f"{s3.url}/tiny")
    with pytest.raises(DataError, match="nothing: there is no such object; check the URL"):
        find(f"{s3.url}/nothing")
    s3.put("other/x.bin", b"x")
    with pytest.raises(DataError, match="no model's folder; expected config.json"):
        find(f"{s3.url}/other")
    with pytest.raises(
        DataError, match=r"config\.json: a file; expected the model's folder, give s3://"
    ):
        find(f"{s3.url}/tiny/config.json")
    assert not list(Path(os.environ["DIDACT_CACHE"]).glob("models/*"))
