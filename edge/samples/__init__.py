"""Samples: frames that the cloud wants to see, chosen by its policies, kept here until it has them."""
