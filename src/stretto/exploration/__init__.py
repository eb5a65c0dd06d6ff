"""Runs nodes in every order of events, within stated bounds: the exhaustive search of small worlds.

`ledger`: the replicated service. `nodes`: the real nodes, as a table of their states and steps. `checks`: what must hold, as a function of
a state. `world`: all nodes, the messages sent, and the possible next events. `search`: the exhaustive search; `guided`: seeded walks
through larger worlds. `schedule`: one sequence of steps, which can be described, saved, shortened and replayed. `report`: the results.
"""
