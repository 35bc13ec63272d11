"""The recipe `skin_lesion`; see its README."""
