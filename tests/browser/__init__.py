"""The dashboard in a real browser without a screen."""
