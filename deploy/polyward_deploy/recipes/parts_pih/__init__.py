"""The recipe `parts_pih`; see its README."""
