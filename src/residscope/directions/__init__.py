"""Directions: how they are found, and what texts look like along them."""
