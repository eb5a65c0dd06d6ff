"""Help for tests: of a service, and of a protocol.

- `check_service`: a property test, which finds what cannot be replicated in a service. Needs hypothesis: `pip install 'stretto[testing]'`.
- `local`: a service without a cluster, with a clock that the test moves.
- `Stage`: a protocol's real nodes in a world that the test moves by hand, step by step; `Transcript`: what happened there, as text.
- `RecordingPort`: a port without a world, for tests of a single node.
"""

from stretto.testing.checking import check_service
from stretto.testing.local import Local, local
from stretto.testing.port import RecordingPort
from stretto.testing.stage import InFlight, Stage
from stretto.testing.transcript import Transcript

__all__ = ["InFlight", "Local", "RecordingPort", "Stage", "Transcript", "check_service", "local"]
