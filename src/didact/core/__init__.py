"""What every stage agrees on: values, protocols, names, errors.

Imports only numpy, pyarrow and pydantic.
"""
