"""The sides of the comparison, each a process in an environment of its own: `python -m benchmarks.peers.NAME MODEL`."""
