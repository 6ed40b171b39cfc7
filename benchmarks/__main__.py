"""Entry point: `python -m benchmarks NAME [--json FILE]`."""

from benchmarks.kit.runner import main

main()
