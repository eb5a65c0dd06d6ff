"""The contract between protocols and the world: nodes, ports, messages, configuration, state machines.

Pure: the standard library and msgspec, no clock, no socket, no thread, and no randomness except what a port provides.
"""
