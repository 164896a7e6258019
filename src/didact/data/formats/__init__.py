"""Row formats: how a row is recognized, and how it becomes turns. One file per format.

Formats are the ones trainers read (TRL, Axolotl, LLaMA-Factory): messages, sharegpt, alpaca,
prompt/completion, text, preference pairs, and labelled completions (KTO).
"""
