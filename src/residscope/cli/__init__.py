"""The terminal. Nothing heavy is imported until a command computes."""
