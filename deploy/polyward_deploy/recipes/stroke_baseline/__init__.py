"""The recipe `stroke_baseline`; see its README."""
