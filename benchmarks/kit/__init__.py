"""What benchmarks share: the measure and the runner."""
