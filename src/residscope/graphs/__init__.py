"""Causal graphs: which feature of a prompt changes which later one, measured."""
