"""Replicated services as users write them: a class of typed methods, and containers that undo their own changes.

Pure, as the contract is: a service has no clock, no socket, no thread, and no randomness but what an operation brings.
"""
