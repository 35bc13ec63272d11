"""The recipe `brain_tumour`; see its README."""
