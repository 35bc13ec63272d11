"""The recipe `spectral_bone`; see its README."""
