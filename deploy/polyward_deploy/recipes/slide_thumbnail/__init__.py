"""The recipe `slide_thumbnail`; see its README."""
