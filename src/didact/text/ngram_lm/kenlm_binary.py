"""KenLM's own binaries, asked through the package `kenlm`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from didact.core.errors import DataError, need
from didact.text.ngram_lm.judged import Judged
from didact.text.ngram_lm.tokens import Sentence, Unit, spelled

MAGIC: Final = b"mmap lm http://kheafield.com/code format version"
# KenLM would take them for the marks of its own sentences; `spelled` parts tokens by one space.
_MARK: Final = re.compile("(?<![^ ])</?s>(?![^ ])")


def open_binary(path: Path) -> Any:
    """A model in KenLM's binary format.

    Raises:
        MissingDependencyError: The package is not installed.
        DataError: It does not take the file.
    """
    need(f"{path}, a KenLM binary,", "kenlm")
    import kenlm

    try:
        return kenlm.Model(str(path))
    except (OSError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"{path}: kenlm cannot read it ({said}); expected a whole binary of this machine's "
            "KenLM: copy it again, make it anew with build_binary, or give the ARPA file"
        ) from error


def judge(model: Any, texts: pa.LargeStringArray, unit: Unit, sentence: Sentence) -> Judged:
    """The probability of each text, as `didact.text.ngram_lm.model.Model` says it.

    `<s>` and `</s>` in a text are unknown tokens.

    **Cost:** some 0.5 µs a token by white space, 0.3 of characters, and 2.2 of words, which are cut
    in Python; one thread at a time.
    """
    n = len(texts)
    out = Judged(np.zeros(n), *np.zeros((3, n), np.int64))
    for i, sentences in enumerate(spelled(texts, unit, sentence)):
        out.sentences[i] = len(sentences)
        for one in sentences:
            found = list(model.full_scores(_MARK.sub("<unk>", one), bos=True, eos=True))
            out.logs[i] += sum(log for log, _, _ in found)
            out.tokens[i] += len(found) - 1
            out.unknown[i] += sum(unknown for _, _, unknown in found)
    return out
