"""`python -m polyward_client` is `polyward-node`."""

from polyward_client.cli import main

main()
