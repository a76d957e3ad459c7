"""`python -m residscope`."""

from residscope.cli.main import main

main()
