"""What this device runs: from a signed deployment to a committed model or back, and the receipt that proves it."""
