"""The recipe `mayo_coarse_fine`; see its README."""
