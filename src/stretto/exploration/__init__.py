"""Hosts nodes in every order of what may happen to them, within stated bounds: the exhaustive search of small worlds.

`ledger`: what is replicated there. `nodes`: the real nodes, as a table of their states and steps. `checks`: what must never happen, as a
function of a state. `world`: all nodes, what has been sent, and what may happen next. `search`: all of it; `guided`: seeded walks through
worlds too large for that. `schedule`: one sequence of steps, to be read, kept, shortened and done again.
"""
