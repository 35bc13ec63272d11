"""`python -m polyward_server` is `polyward-hub`."""

from polyward_server.cli import main

main()
