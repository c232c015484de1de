"""A scripted fake upstream on a real socket, for `raven-proxy mock`, for tests and for replays.

    async with MockUpstream() as mock:
        mock.reply(status=429, headers={"Retry-After": "2"})  # the next answer
        ...  # talk to mock.url
        assert mock.seen[0].headers["authorization"] == "Bearer sk-test"

Without a script it answers as a plausible OpenAI-like vendor (`vendor.py`); models named `fx-…`
misbehave (the table in `faults.py`). As a process it is driven by `GET` and `DELETE /_seen` and
`POST /_script`. Read `scripts.py` first: what goes in and out.
"""

from .faults import error_reply, fault_table
from .scripts import ScriptedReply, Seen
from .server import MockUpstream, serve

__all__ = ["MockUpstream", "ScriptedReply", "Seen", "error_reply", "fault_table", "serve"]
