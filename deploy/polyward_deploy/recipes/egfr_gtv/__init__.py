"""The recipe `egfr_gtv`; see its README."""
