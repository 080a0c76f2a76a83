"""One request in flight to Flowise, from the upstream connection to the client's transport.

The bytes take six hops in one loop iteration: `Connection` → `UpstreamCall` → `ResponseWriter` → `ClientStream` →
transport, and `UpstreamCall` → `ReplyObserver`. Flowise's event format enters through `gateway.flowise` alone: its
observer, filter and error tail.
"""
