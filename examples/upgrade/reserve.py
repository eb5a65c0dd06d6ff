"""A client of the second release; `roll_out.py` runs it."""

import sys

from inventory import Inventory  # type: ignore[import-not-found]

import stretto

with stretto.connect(sys.argv[1]) as cluster:
    try:
        left = cluster.service(Inventory).reserve("apples", "Ada", 40)
        print(f"40 apples are reserved, {left} are left")
    except stretto.NotActive as error:
        print(f"NotActive: {error}")
