"""The recipe `slide_grade`; see its README."""
