"""The demonstration of `stretto demo`: replicas under load, of which one is killed and restarted.

`crash`: what happens, and what came of it. `load`: the callers, which check each answer. `display`: what is shown meanwhile and at the end.
"""
