"""The demonstration of `stretto demo`: replicas under load; one of them is killed and restarted.

`crash`: the events and their results. `load`: the callers, which check each answer. `display`: the output during the run and at its end.
"""
