"""Sparse dictionaries of activations: loaded from what others trained, checked, and used."""
