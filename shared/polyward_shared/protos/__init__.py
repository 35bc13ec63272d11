"""The control plane's messages: `control.proto`, and what `make protos` generates from it."""

SERVICE = "polyward.control.Control"
CONNECT, RENEW = "Connect", "Renew"
PROTOCOL = 1
MOST_BYTES = 64 * 1024  # of one message, either way
