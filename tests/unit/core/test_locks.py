"""One at a time, also where the holder removes what it holds or is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from didact.core.locks import folder_to_oneself, is_locked, lock_file, passing_lock
from didact.core.paths import place


def test_one_at_a_time_though_each_removes_the_folder(tmp_path):
    """As `keep` does; whoever waited holds a folder that is no longer there, and must not go on."""
    folder, inside, most, waited = tmp_path / "a" / "b", [], [], []

    def work():
        with folder_to_oneself(folder, lambda: waited.append(1)):
            inside.append(1)
            most.append(len(inside))
            assert folder.is_dir()
            time.sleep(0.03)
            assert folder.is_dir()
            folder.rmdir()
            time.sleep(0.01)
            inside.pop()
            done.append(1)

    done = []
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 6
    assert set(most) == {1}
    assert waited
    assert list(folder.parent.iterdir()) == []


def test_nobody_waits_for_a_folder_that_is_free(tmp_path):
    for _ in range(2):
        with folder_to_oneself(tmp_path / "a", lambda: pytest.fail("it waits")):
            pass
        with pytest.raises(KeyError), folder_to_oneself(tmp_path / "a", lambda: pytest.fail("too")):
            raise KeyError


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from didact.core.locks import folder_to_oneself\n"
        "with folder_to_oneself(Path(sys.argv[1]), lambda: None):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    folder, waited = tmp_path / "a", threading.Event()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"held\n"
        killer = threading.Thread(target=lambda: (waited.wait(20), child.kill()))
        killer.start()
        with folder_to_oneself(folder, waited.set):
            assert child.wait(20) == -signal.SIGKILL
        killer.join()
    assert waited.is_set()
    assert list(tmp_path.iterdir()) == [folder]


def test_whether_a_folder_is_taken_is_told_without_a_trace(tmp_path):
    folder = tmp_path / "a"
    assert not is_locked(folder)
    with folder_to_oneself(folder, lambda: pytest.fail("it waits")):
        assert is_locked(folder)
        before = sorted(tmp_path.iterdir())
        assert is_locked(folder)
        assert sorted(tmp_path.iterdir()) == before
    assert not is_locked(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_who_does_not_want_to_wait_says_so(tmp_path):
    def refuse():
        raise BlockingIOError

    folder = tmp_path / "a"
    with folder_to_oneself(folder, refuse):
        with pytest.raises(BlockingIOError), folder_to_oneself(folder, refuse):
            pytest.fail("both hold it")
        assert is_locked(folder)
    with folder_to_oneself(folder, refuse):
        pass


def test_a_lock_file_tells_whether_it_is_ours_and_keeps_what_is_in_it(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("something")
    with lock_file(path) as ours, lock_file(path) as again:
        assert (ours, again) == (True, False)
    with lock_file(path) as ours:
        assert ours
    assert path.read_text() == "something"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"), lock_file(link):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.s3
def test_behind_a_url_a_lock_is_a_claim(s3):
    def refuse():
        raise KeyError

    lock = place(f"{s3.url}/arms/.lock")
    with passing_lock(lock, refuse):
        assert lock.exists()
        with pytest.raises(KeyError), passing_lock(lock, refuse):
            pytest.fail("both hold it")
    assert not lock.exists()
