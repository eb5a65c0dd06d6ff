"""The contract between protocols and the world: nodes, ports, messages, configuration, state machines.

Pure: the standard library and msgspec, no clock, no socket, no thread, no randomness but what a port hands out.
"""
