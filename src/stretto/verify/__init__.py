"""Checks from outside: observers that watch all replicas through what the contract lets anyone read, and histories of calls."""
