"""The sections of the report, a file each: what it says, how that is found and how it is drawn."""
