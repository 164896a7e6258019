"""Models that belong behind a URL, on a store of fsspec's in this process."""

import pytest

from didact.core.cost import Cost
from didact.core.paths import listed, place
from didact.models.folder import RECORD
from didact.training.elsewhere import train_elsewhere
from didact.training.trained import Trained

pytest.importorskip("fsspec")


def test_a_model_is_put_there_once_it_is_whole_and_known_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DIDACT_SCRATCH", str(tmp_path))
    out = place(f"memory://models/{tmp_path.name}/model")
    began = []

    def train(text, *, fails=False):
        def into(folder):
            began.append((folder / "half").exists())
            reused = (folder / RECORD).is_file() and (folder / "weights").read_text() == text
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "half").write_text("")
            if fails:
                raise KeyboardInterrupt
            (folder / "half").unlink()
            (folder / "weights").write_text(text)
            (folder / "sub").mkdir(exist_ok=True)
            (folder / "sub" / text).write_text("")
            (folder / RECORD).write_text(text)
            return Trained(folder, (), Cost(), {}, reused=reused)

        return into

    def there():
        return {p.relative_to(out).as_posix() for p in listed(out, "**/*") if p.is_file()}

    with pytest.raises(KeyboardInterrupt):
        train_elsewhere(out, train("a", fails=True))
    assert not out.exists()
    done = train_elsewhere(out, train("a"))
    assert began == [False, True]  # it went on from what was left
    assert (done.path, done.reused) == (out, False)
    assert there() == {"weights", "sub/a", RECORD}
    assert not list((tmp_path).rglob("weights"))
    assert train_elsewhere(out, train("a")).reused
    train_elsewhere(out, train("b"))
    assert there() >= {"weights", "sub/b", RECORD}
    assert (out / RECORD).read_text() == "b"
