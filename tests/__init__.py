"""The tests mirror src/residscope."""
