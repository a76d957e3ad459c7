"""How the bundled model and its dictionaries are made: `python -m training`."""
