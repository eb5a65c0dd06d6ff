"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("stretto", deadline=None, print_blob=True)
settings.load_profile("stretto")
