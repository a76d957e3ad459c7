"""Summaries of much text: each merges, exact and order-independent up to rounding."""
