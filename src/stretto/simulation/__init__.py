"""Runs nodes in virtual time: links, faults, processing costs, callers and checks, all decided by one seed."""
