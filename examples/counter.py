"""A replicated counter: the smallest service.

Run it, in this folder:

    $ stretto cluster init --service counter:Counter
    cluster.toml written: 3 replicas, protocol adaptive, durability memory. Start it with: stretto cluster up
    $ stretto cluster up
    3 replicas up, durability memory; logs are in .
    $ python counter.py
    5
    $ python counter.py
    10
    $ stretto cluster down
    3 replicas ended
"""

import stretto


class Counter(stretto.Service):
    def __init__(self) -> None:
        self.total = stretto.Cell[int](0)

    @stretto.operation
    def add(self, amount: int) -> int:
        self.total.value += amount
        return self.total.value


if __name__ == "__main__":
    with stretto.connect("cluster.toml") as cluster:
        print(cluster.service(Counter).add(5))
