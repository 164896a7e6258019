"""How a command ends that is asked to stop."""

import os
import signal
import sys
import time

import pytest

from didact.cli import main
from didact.cli.streams import inert, say

app = sys.modules[main.__module__]  # the package has the application by that name

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")


@pytest.fixture
def _own_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_own_handlers")
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGTERM, "stopped by SIGTERM"),
        (signal.SIGHUP, "stopped by SIGHUP"),
        (signal.SIGINT, "interrupted"),
    ],
)
def test_a_signal_ends_a_command_with_a_word(monkeypatch, capsys, number, said):
    def work(**_):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(app, "app", work)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 128 + number
    told = capsys.readouterr().err
    assert told == f"{said}; run the same command again to go on where it stopped\n"


@pytest.mark.usefixtures("_own_handlers")
def test_what_nohup_asks_for_stays(monkeypatch):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(app, "app", lambda **_: os.kill(os.getpid(), signal.SIGHUP))
    app.main()


def test_messages_cannot_steer_a_terminal(capsys):
    say("a\x1b[31m\r\x07b\nc\td\u202ee\udce9")
    assert capsys.readouterr().err == "a\\x1b[31m\\x0d\\x07b\nc\td\\u202ee\\udce9\n"
    assert inert("plain é 漢") == "plain é 漢"
