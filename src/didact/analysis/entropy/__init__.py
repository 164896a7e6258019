"""The entropy law on one's own runs: how redundant and how hard to learn a set is, and its worth.

`runs` and `table` hold what is known of runs, `observed` finds it in run folders, `fits` and
`correlation` are the arithmetic, `law` says what it comes to.
"""
