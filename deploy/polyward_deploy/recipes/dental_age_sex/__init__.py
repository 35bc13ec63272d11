"""The recipe `dental_age_sex`; see its README."""
