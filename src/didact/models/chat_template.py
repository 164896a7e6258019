"""Chat templates, rendered where they can take neither all time nor all memory.

A template is a program that comes with a model. The sandbox of transformers keeps it from files and
from the interpreter, not from looping for ever or from building a text of many gigabytes; so it
runs in a process of its own, which is ended when it takes too much.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from didact.core.errors import DataError

SECONDS: Final = 30.0  # for one conversation; a template takes some 100 µs
_MEMORY: Final = 2**31  # bytes that it may take beside what the process had
_LENGTH: Final = 2**24  # characters of a text, beside some for each of the conversation
_PER_CHARACTER: Final = 16
_REMEDY: Final = (
    "the template comes with the model and cannot be used: give a model that you trust, or take "
    "another template where there is a setting for it (template=chatml, roles, plain)"
)


def rendered(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    prompt: bool = False,
    unfinished: bool = False,
) -> str:
    """A conversation in the tokenizer's own chat template.

    Args:
        tokenizer: A tokenizer of transformers that has one.
        messages: Roles and contents.
        prompt: With what opens the answer behind them.
        unfinished: Without what ends the last message, which goes on.

    Raises:
        TemplateError: The template refuses the conversation, or fails on it; jinja2's.
        DataError: It takes more than 30 seconds or 2 GiB, makes a text of more than 16 Mi
            characters and 16 for each of the conversation, or is damaged.

    **Cost:** what the template takes, and some 0.2 ms to hand it over on a busy core.
    """
    with _LOCK:
        room = _room_of(tokenizer)
        try:
            return room.render(messages, prompt=prompt, unfinished=unfinished)
        except BaseException:  # an answer that still comes would be taken for the next one's
            if room.waiting:
                _end(room)
            raise


def done_with(tokenizer: Any) -> None:
    """End the process of a tokenizer's template, if there is one; the next text has another."""
    with _LOCK:
        pid, room = _ROOMS.pop(tokenizer, (0, None))
        if room is not None and pid == os.getpid():
            room.end()


class _Room:
    """A process that renders the template of one tokenizer.

    Attributes:
        waiting: It was asked and has not answered.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.waiting = False
        self.template = tokenizer.chat_template
        # A fork knows the tokenizer and what it needs; elsewhere it is sent, and takes seconds.
        how: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._line, theirs = how.Pipe()
        self.process = how.Process(
            target=_serve, args=(theirs, tokenizer), daemon=True, name="didact chat template"
        )
        with warnings.catch_warnings():
            # of threads beside a fork: this one only renders text, and takes no lock of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, prompt: bool, unfinished: bool
    ) -> str:
        """The text, or what the process raised."""
        self.waiting = True
        try:
            self._line.send((list(messages), prompt, unfinished))
            if not self._line.poll(SECONDS):
                raise DataError(
                    f"the model's chat template did not end within {SECONDS:g} seconds for one "
                    f"conversation; {_REMEDY}"
                )
            fault, text = self._line.recv()
        except (EOFError, OSError) as error:
            raise DataError(
                f"the process of the model's chat template ended on its own: it took too much "
                f"memory; {_REMEDY}"
            ) from error
        self.waiting = False
        if fault == "refused":
            from jinja2.exceptions import TemplateError

            raise TemplateError(text)
        if fault:
            raise DataError(f"the model's chat template {fault}; {_REMEDY}")
        return str(text)

    def end(self) -> None:
        """End the process, whatever it does."""
        self._line.close()
        self.process.kill()
        self.process.join()


_LOCK: Final = threading.Lock()
_ROOMS: weakref.WeakKeyDictionary[Any, tuple[int, _Room]] = weakref.WeakKeyDictionary()


def _room_of(tokenizer: Any) -> _Room:
    pid, room = _ROOMS.get(tokenizer, (0, None))
    if room is not None and pid == os.getpid() and room.process.is_alive():
        if room.template == tokenizer.chat_template:
            return room
        room.end()
    room = _Room(tokenizer)
    _ROOMS[tokenizer] = os.getpid(), room
    weakref.finalize(tokenizer, _end_ours, os.getpid(), room)
    return room


def _end(room: _Room) -> None:
    room.end()
    for tokenizer, (_, known) in list(_ROOMS.items()):
        if known is room:
            del _ROOMS[tokenizer]


def _end_ours(pid: int, room: _Room) -> None:
    if pid == os.getpid():
        with contextlib.suppress(Exception):
            room.end()


# -- in the process --------------------------------------------------------------------------------


def _serve(line: Connection, tokenizer: Any) -> None:
    """Render until nobody asks any more."""
    gc.disable()  # what was copied with the process is not this one's to give back
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other one hears it, and ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_go(line.fileno())
    _limit_memory()
    try:
        while True:
            messages, prompt, unfinished = line.recv()
            line.send(_answer(tokenizer, messages, prompt=prompt, unfinished=unfinished))
    except (EOFError, OSError):
        os._exit(0)


def _answer(
    tokenizer: Any, messages: list[dict[str, Any]], *, prompt: bool, unfinished: bool
) -> tuple[str, str]:
    """What is wrong, and the text: of a refusal its reason."""
    from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError

    most = _LENGTH + _PER_CHARACTER * sum(len(str(m.get("content"))) for m in messages)
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt,
            continue_final_message=unfinished,
        )  # fmt: skip
    except (SecurityError, TemplateSyntaxError) as error:
        return f"cannot be run ({error})", ""
    except TemplateError as error:
        return "refused", str(error)
    except MemoryError:
        return f"takes more than {_MEMORY / 2**30:g} GiB for one conversation", ""
    except Exception as error:  # noqa: BLE001 - a program of anybody fails anyhow
        return "refused", f"{type(error).__name__}: {error}"[:500]
    if len(text) > most:
        return f"makes a text of {len(text):,} characters of one conversation", ""
    return "", text


def _let_go(kept: int) -> None:
    """Close what was open in the process this one is a copy of: locks among it."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a folder that is no folder
            if int(name) > 2 and int(name) != kept:
                with contextlib.suppress(OSError):
                    os.close(int(name))


def _limit_memory() -> None:
    """No more memory than was taken already and a fixed part; where that can be asked."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):  # macOS, Windows, or a limit that is lower
        return
