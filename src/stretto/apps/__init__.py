"""Replicated services, each with its model for the checker and its generators of operations."""
