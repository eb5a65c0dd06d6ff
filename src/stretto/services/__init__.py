"""Replicated services as users write them: a class of typed methods, and containers that undo their own changes.

Pure, like the contract: no clock, no socket, no thread, and no randomness except what comes with an operation.
"""
