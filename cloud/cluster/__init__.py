"""Kubernetes: objects by which a cluster is told of rollouts, groups and training, and nodes that are devices."""
