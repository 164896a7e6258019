"""Choosing a set of rows: rankings, and one function that cuts them to a budget and quotas."""
