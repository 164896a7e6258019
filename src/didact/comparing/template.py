"""The commented grid that `didact compare init` writes."""

from __future__ import annotations

from typing import Final

from didact.core.atomic import write_text
from didact.core.errors import ConfigError
from didact.core.paths import Place

TEMPLATE: Final = """\
# Which method, on my data, at equal total compute.
# The bill:  didact compare THIS_FILE -o OUT --dry-run
# Run:       didact compare THIS_FILE -o OUT        (again = go on where it stopped)
# Plan:      didact plan --pool pool.jsonl --model MODEL --budget 2e18 --from OUT
# The base model, random samples and all data are always there.

data: {path: pool.jsonl, exclude: [test.jsonl]}   # rows that repeat the test are dropped

base: BASE                    # a model to start every training from: a folder or a hub name
# base:                       # or a run that makes one, of rows that the pool has not
#   data: {path: base.jsonl}
#   train: {model: scratch, params: 1M, context: 256, learning_rate: 3e-3}

target: target.jsonl          # samples to select for
# choose_on: [val.jsonl]      # settings of `axes` are chosen on these files …
tell_on: [test.jsonl]         # … and everything is told on these

budgets: [0.1, 0.25, 0.5, 1]  # scoring and training together, in full passes over the pool
seeds: [0, 1, 2]              # one ranks nothing; three or more

train: {learning_rate: 1e-3, batch_size: 8}   # of every training; see 'didact train'
order: {method: shuffle}

arms:
  - name: bm25
    score: {method: bm25}
  - name: compression
    score: {method: compression}
  # - name: perplexity
  #   score: {method: perplexity, model: BASE}
  #   select: {method: middle}

# axes:                       # every arm with each value; all of them are told, one is chosen
#   train.learning_rate: [1e-3, 2.5e-4]

# metric: bits_per_byte       # or, of multiple choice, answer_probability
# tasks: 20                   # that could share the scores: shown beside the whole cost
# epochs: fill                # another table, in which every arm repeats the same …
# fraction: 0.05              # … share of the pool until its budget is spent
"""


def write_template(path: Place) -> None:
    """Write the commented grid.

    Raises:
        ConfigError: The file exists.
    """
    if path.exists():
        raise ConfigError(f"{path} exists; choose another name with -o")
    write_text(path, TEMPLATE)
