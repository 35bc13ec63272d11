"""The typed interface at which gate and trainer meet; in one process a call, in two a Unix socket."""
