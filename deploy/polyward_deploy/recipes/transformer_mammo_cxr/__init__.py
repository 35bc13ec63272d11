"""The recipe `transformer_mammo_cxr`; see its README."""
