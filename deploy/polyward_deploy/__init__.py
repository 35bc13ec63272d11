"""Both sides on one machine: simulation, generated hospitals, real processes for trying out and for tests."""
