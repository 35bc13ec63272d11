"""The recipe `nuclei_pannuke`; see its README."""
