"""Chain replication: a protocol of your own, on real sockets, in the simulator, and in the exhaustive explorer.

    client          r0 (head)       r1              r2 (tail)
      |---Request---->|               |               |     append, execute
      |               |---Append----->|               |     append, execute
      |               |               |---Append----->|     append, execute, commit
      |<----Reply-----|---------------|---------------|
      |               |               |<---Stored-----|     commit
      |               |<---Stored-----|               |     commit

Each log is a prefix of the log before it in the chain, so all replicas have every entry that the tail has. The tail may commit at once.

The chain here never changes. While a replica is down, calls wait until it has restarted from its disk. A replica that has lost its disk
cannot take part again. (Van Renesse and Schneider, "Chain Replication for Supporting High Throughput and Availability", OSDI 2004, add a
master that repairs the chain.)

- `messages.py`: what the replicas send to each other; `replica.py`: the rules. The client is one that comes with Stretto.
- `__main__.py`: the three ways to run it. All three run the same objects.

Run it, in the folder above this one:

    $ python -m chain sockets
    three replica processes on this machine: b'hello'
    $ python -m chain simulate
    200 operations with lost, duplicated and delayed messages and power cuts: violation none
    $ python -m chain explore
    every order of 2 calls, 1 timer and 1 crash: exhausted yes, violation none
"""

from chain.messages import MESSAGES
from chain.replica import ChainReplica
from stretto.core.protocol import ProtocolDefinition
from stretto.replication.client import LeaderClient
from stretto.replication.records import RECORDS

CHAIN = ProtocolDefinition("chain", MESSAGES, RECORDS, ChainReplica, LeaderClient)
