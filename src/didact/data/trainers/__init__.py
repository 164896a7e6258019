"""Trainers that keep the order: the settings they need, and a script that uses them. A file each.

Most trainers shuffle unless they are told not to. What keeps the order (each run on a small model
by the test suite, where installed):

- HF `Trainer` and TRL, transformers ≥ 5.2: `train_sampling_strategy: sequential`.
- TRL's `packing` reorders by length under its default strategy `bfd`; `packing: false` here.
- TRL's `shuffle_dataset` stays false.
- Epochs are written out as data, so `num_train_epochs: 1`.
"""
