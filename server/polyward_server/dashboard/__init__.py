"""What people see of the hub in a browser: FastAPI, Jinja and server-sent events over the views of the ledger."""
