"""A real browser for pages that didact writes; a tiny Llama for trainers."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Chromium's own window is never narrower than 500 pixels; a frame may be.
FRAME = """<!doctype html><body style="margin:0"><pre id="found"></pre>
<iframe src="{name}" style="border:0;width:{width}px;height:900px"></iframe>
<script>
addEventListener('message', e => {{ document.getElementById('found').textContent = e.data; }});
</script>"""


@dataclass(frozen=True)
class Browser:
    """Headless Chromium."""

    command: str

    def browse(self, page: Path, folder: Path, *arguments: str) -> str:
        """The page's DOM after its scripts ran."""
        profile = folder / "profile"
        shutil.rmtree(profile, ignore_errors=True)
        command = [
            self.command, "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--virtual-time-budget=4000", *arguments, "--dump-dom",
            page.as_uri(),
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        return done.stdout.decode()

    def probe(
        self, page: str, probe: str, folder: Path, width: int, *, dark: bool = False
    ) -> dict[str, Any]:
        """What a script in front of a page's style posts to the window above, as JSON."""
        policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", page)
        # Without the policy: what is tested is that there is nothing for it to stop.
        bare = page.replace(policy.group(), "").replace("<style>", f"{probe}<style>", 1)
        (folder / "probed.html").write_text(bare, "utf-8")
        frame = folder / "frame.html"
        frame.write_text(FRAME.format(name="probed.html", width=width))
        size = f"--window-size={max(width, 500)},1000"
        scheme = f"--blink-settings=preferredColorScheme={int(not dark)}"
        dom = self.browse(frame, folder, size, scheme)
        found = re.search(r"<pre id=\"found\">(.*?)</pre>", dom, re.DOTALL).group(1)
        return json.loads(html.unescape(found))


@pytest.fixture(scope="session")
def browser() -> Browser:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return Browser(found)


TEMPLATE = (
    "{% if tools %}{{ '<|system|> ' + tools|tojson + ' ' }}{% endif %}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' }}"
    "{% if m.reasoning_content %}{{ '[' + m.reasoning_content + '] ' }}{% endif %}"
    "{{ m['content'] + ' ' }}"
    "{% if m.tool_calls %}{{ m.tool_calls|tojson + ' ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory):
    """A random Llama of a few thousand weights and its tokenizer, saved as models are."""
    pytest.importorskip("torch")
    pytest.importorskip("datasets")
    pytest.importorskip("trl")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<eos>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer.train_from_iterator(
        [f"sample {i} asks, answer {i} says, bad" for i in range(100)],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", chat_template=TEMPLATE
    ).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
        eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
