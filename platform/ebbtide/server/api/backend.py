"""The functions that the API and the page share: filtered reads from the cache, and writes with the caller's token.

Each read is filtered by what the caller is allowed to see, and has the age of its data. Writes go to the cluster
directly with the caller's token, so that RBAC decides. Upstream: access design in docs/serve.md.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from ebbtide.server.api.access import Caller, UnauthorizedError
from ebbtide.server.api.connection import Connection
from ebbtide.server.api.costs import Costs
from ebbtide.server.api.measurements import Measurements
from ebbtide.server.api.offline import Specs
from ebbtide.server.api.polls import SharedPolls
from ebbtide.server.api.reads import Reads
from ebbtide.server.api.sessions import BrowserSessions, Session
from ebbtide.server.api.writes import Writes


class Logins:
    """The callers of a connection, and their browser sessions."""

    def __init__(self, connection: Connection) -> None:
        """Authenticate by the connection's access reviews."""
        self._connection = connection
        self.sessions = BrowserSessions(connection.clock, connection.session_keys)

    def caller_of(self, token: str) -> Caller:
        """Return the owner of a token; without a token, the anonymous caller if this server has one.

        Raises:
            UnauthorizedError: the token is missing or invalid.
            ClusterError: the API server is unavailable and no result is cached.
        """
        if not token:
            if self._connection.anonymous_caller is None:
                raise UnauthorizedError
            return self._connection.anonymous_caller
        local_caller = self._connection.local_caller
        if local_caller is not None and secrets.compare_digest(token.encode(), local_caller.token.encode()):
            return local_caller
        return self._connection.access.caller_of(token)

    def begin_local_session(self) -> Session:
        """Return a new session of the kubeconfig's user, or raise an ``UnauthorizedError``."""
        if self._connection.local_caller is None:
            raise UnauthorizedError
        return self.sessions.begin(self._connection.local_caller.token)


@dataclass(eq=False, repr=False)
class Backend(Connection):
    """One cluster, and the operations on it by topic."""

    def __post_init__(self) -> None:
        """Make the parts; ``start`` starts reading the cluster."""
        self.logins = Logins(self)
        self.reads = Reads(self)
        self.polls = SharedPolls()
        self.measurements = Measurements(self, self.reads, self.polls)
        self.writes = Writes(self, self.reads)
        self.specs = Specs(self.profile, self.profile_data)
        self.costs = Costs(self, self.reads, self.specs)

    def stop(self) -> None:
        """Stop watching the cluster, and stop the workers."""
        self.cache.changes.stop()
        self.reviews.shutdown(wait=False, cancel_futures=True)
        self.specs.workers.close()
