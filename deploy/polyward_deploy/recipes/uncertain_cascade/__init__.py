"""The recipe `uncertain_cascade`; see its README."""
