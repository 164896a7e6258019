"""Places that cannot be written: what kind of place it is, and what to do."""

import errno
import os

import pytest

from didact.core.atomic import lies_inside, replacing, writable, write_text
from didact.core.errors import DataError


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EROFS, "a file system that is read-only"),
        (errno.EACCES, "there is no permission to write there"),
        (errno.EPERM, "writing there is not permitted"),
        (errno.ENOSPC, "no space left on the disk"),
    ],
)
def test_every_refusal_has_its_kind_and_the_remedy(tmp_path, number, told):
    with pytest.raises(DataError, match=rf"{told} .*take another"), writable(tmp_path, "take another"):  # fmt: skip
        raise OSError(number, os.strerror(number), "x")


def test_other_errors_are_not_ours(tmp_path):
    with pytest.raises(BrokenPipeError), writable(tmp_path, ""):
        raise BrokenPipeError(errno.EPIPE, "gone")


def test_a_folder_in_the_place_of_a_file_and_the_other_way_round(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DataError, match=r"a folder is in the place of a file \(.*a\.txt\)"):
        write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b").write_text("")
    for name in ("b/c.txt", "b/c/d.txt"):
        with pytest.raises(DataError, match=r"a file is in the place of a folder"):
            write_text(tmp_path / name, "x")
    with pytest.raises(DataError, match="longer than a name may be"):
        write_text(tmp_path / ("n" * 400), "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b"]


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def test_names_that_lie_inside(tmp_path):
    (tmp_path / "out").symlink_to("/")
    inside = [lies_inside(tmp_path, n) for n in ("a", "a/b", "./a")]
    outside = [lies_inside(tmp_path, n) for n in ("", "..", "a/../../b", "/a", "out/b", "a\0")]
    assert (inside, outside) == ([True] * 3, [False] * 6)
