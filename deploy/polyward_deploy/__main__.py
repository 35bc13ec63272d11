"""`python -m polyward_deploy` is `polyward-sim`."""

from polyward_deploy.cli import main

main()
