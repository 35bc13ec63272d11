"""The recipe `stroke_cascade`; see its README."""
