"""How lm-eval is given conversations: in a chat template that is bounded."""

import pytest

pytest.importorskip("transformers")

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from didact.core.errors import DataError
from didact.evaluation.harness import shown
from didact.models import chat_template

CHAT = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
EACH = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
OPEN = "{% if add_generation_prompt %}[assistant]{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"


def tokenizer(template):
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    made.chat_template = template
    return made


def test_conversations_are_shown_as_lm_eval_shows_them():
    made = tokenizer(EACH + OPEN)
    assert shown(made, CHAT) == "[system] be[user] hi[assistant]"
    begun = [*CHAT, {"role": "assistant", "content": "I"}]
    assert shown(made, begun, add_generation_prompt=False) == "[system] be[user] hi[assistant] I"
    assert shown(tokenizer(NO_SYSTEM + EACH), CHAT) == "[user] hi"


def test_a_template_of_anybody_is_refused(monkeypatch):
    with pytest.raises(DataError, match=r"refuses a conversation of 1 messages \(never\)"):
        shown(tokenizer("{{ raise_exception('never') }}"), CHAT)
    monkeypatch.setattr(chat_template, "SECONDS", 0.3)
    with pytest.raises(DataError, match=r"did not end within 0\.3 seconds"):
        shown(tokenizer("{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3), CHAT)
