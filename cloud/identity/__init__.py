"""Who the cloud is: the keys that sign manifests and deployments, and what devices must know to trust them."""
