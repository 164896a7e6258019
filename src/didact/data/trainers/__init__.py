"""Trainers that keep the order: the settings they need, and how they take the rows. A file each.

Most trainers shuffle unless they are told not to. A trainer that is a library (`hf`, `trl`) gets a
script that reads the user's own rows; one that reads files by itself (`llama_factory`, `ms_swift`,
`axolotl`) gets the rows once more, in a shape that it understands. What would lose the order in any
case is refused.

These five are run on a small model by the test suite where they are installed: `make trainers-all`.
The others were never run, and say so in their settings.
"""
