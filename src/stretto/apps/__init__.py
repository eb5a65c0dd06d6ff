"""Replicated services, each with what draws operations for it beside it."""
