"""What every stage agrees on: values, protocols, names, errors. Imports numpy, pyarrow, pydantic."""
