"""The recipe `cardiac_ef`; see its README."""
