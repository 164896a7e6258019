"""What every stage agrees on: values, protocols, names, errors.

Imports only filelock, numpy, pyarrow, pydantic and xxhash; drivers of remote stores where they are
needed.
"""
