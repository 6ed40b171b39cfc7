"""The database, from one version of Littoral to the next: a module in `versions` for each step, oldest first."""
