"""The parts of the benchmark `delivery`: a cloud, receivers, and what comes between them, in processes of their own."""
