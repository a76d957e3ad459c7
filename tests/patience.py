"""How long tests wait for what must come: long, for a busy machine may be ten times slower, and no test is timed."""

PATIENCE = 200.0
"""Seconds."""
