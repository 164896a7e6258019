"""Chat templates of anybody: bounded in time, memory and length, in a process of their own."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from didact.core.errors import DataError
from didact.models import chat_template
from didact.models.chat_template import done_with, rendered

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
PLAIN = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
OPEN = PLAIN + "{% if add_generation_prompt %}[assistant] {% endif %}"
THRICE = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
DOUBLED = (
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(40) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}"
)


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>")
    made.chat_template = template
    return made


def test_the_text_is_that_of_transformers():
    made = tokenizer(OPEN)
    for prompt in (False, True):
        same = made.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=prompt)
        assert rendered(made, CHAT, prompt=prompt) == same
    same = made.apply_chat_template(CHAT, tokenize=False, continue_final_message=True)
    assert rendered(made, CHAT, unfinished=True) == same == "[user] hi\n[assistant] yo"
    made.chat_template = "{{ bos_token }}" + PLAIN  # a template that is changed is the new one
    assert rendered(made, CHAT) == "<s>[user] hi\n[assistant] yo\n"


@pytest.mark.parametrize(
    "template", [THRICE, "{% if messages[0]['content'] == 'hi' %}" + THRICE + "{% endif %}"]
)
def test_a_template_that_never_ends(template, monkeypatch):
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)
    made = tokenizer(template)
    with pytest.raises(DataError, match=r"did not end within 0\.3 seconds.*template=chatml"):
        rendered(made, CHAT)
    made.chat_template = PLAIN  # and the next one is answered by a process of its own
    assert rendered(made, CHAT).startswith("[user] hi")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ 'a' * 100000000000 }}", "takes more than 2 GiB"),
        ("{{ 'a' * 40000000 }}", "makes a text of 40,000,000 characters"),
        ("{% for %}", "cannot be run"),
        ("{{ messages.__class__.__mro__ }}", "cannot be run .*unsafe"),
    ],
)
def test_a_template_that_takes_too_much_or_is_none(template, told):
    with pytest.raises(DataError, match=told):
        rendered(tokenizer(template), CHAT)


def test_memory_that_grows(monkeypatch):
    monkeypatch.setattr(chat_template, "_MEMORY", 2**27)
    with pytest.raises(DataError, match=r"takes more than 0\.125 GiB"):
        rendered(tokenizer(DOUBLED), CHAT)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ 1 + 'a' }}", "TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)
def test_what_a_template_refuses_is_its_own_business(template, told):
    made = tokenizer(template)
    for _ in range(2):
        with pytest.raises(TemplateError, match=told):
            rendered(made, CHAT)


def test_the_process_holds_no_file_of_ours(tmp_path):
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    with (tmp_path / "held").open("w"):
        made = tokenizer(PLAIN)
        rendered(made, CHAT)
        _, room = chat_template._ROOMS[made]
        held = [p.readlink().name for p in Path(f"/proc/{room.process.pid}/fd").iterdir()]
    assert "held" not in held
    room.process.kill()  # as the kernel does when memory is short
    room.process.join()
    assert rendered(made, CHAT).startswith("[user] hi")


def test_a_process_that_is_done_with_is_gone():
    made = tokenizer(PLAIN)
    done_with(made)  # there is none yet
    text = rendered(made, CHAT)
    _, room = chat_template._ROOMS[made]
    done_with(made)
    assert not room.process.is_alive()
    assert rendered(made, CHAT) == text  # another one's
