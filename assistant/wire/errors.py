"""What is wrong with a client's event, as the `error` event says it."""

from __future__ import annotations


class WireError(Exception):
    """A client event that cannot be carried out; the call goes on.

    The message names what was expected and what came. `code` and `param` are what clients
    match on; `event_id` is the client's own, echoed."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        param: str = "",
        event_id: str = "",
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.message, self.code, self.param = message, code, param
        self.event_id, self.kind = event_id, kind
