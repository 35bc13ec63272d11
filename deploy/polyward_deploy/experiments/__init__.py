"""Experiments of the field, run through the real gates, round loop, ledger and registry: `polyward-sim bench NAME`.

`linear` and `few_sample` bring their own small trainers; `related` writes sites for the real one.
"""
