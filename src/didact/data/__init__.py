"""Files ↔ Pool: formats of rows, reading, the store; tables; export in the form of a trainer."""
