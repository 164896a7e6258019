"""What the guard asks a chat template of anybody."""

import multiprocessing

import pytest

pytest.importorskip("transformers")

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from didact.callbacks.order_guard import _template_texts
from didact.models import chat_template

FOR_EVER = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3


def tokenizer(template):
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    made.chat_template = template
    return made


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        (None, []),
        ("Be kind.{% for m in messages %}{{ m.content }}{% endfor %}", ["Be kind.?", "Be kind.?!"]),
        ("{{ messages[1].content }}", ["!"]),
        ("{{ 1 + 'a' }}", []),
    ],
)
def test_what_a_template_adds(template, texts):
    before = set(multiprocessing.active_children())
    assert _template_texts(tokenizer(template)) == texts
    assert set(multiprocessing.active_children()) <= before  # none beside the training


def test_a_template_that_never_ends_does_not_hold_up_the_training(monkeypatch, caplog):
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)
    assert _template_texts(tokenizer(FOR_EVER)) == []
    assert "did not end within 0.3 seconds" in caplog.text
