"""Recipes: ready studies for clinical areas, each with a generator of images like its own and an adapter for real ones.

A recipe is a folder whose name is its study's id: `study.toml`, `recipe.toml` (facts about the data and the cited
system), `generator.py` (draws a patient), `adapter.py` (a data set's folders -> manifest rows) and a `README.md`.
Published figures stand in a recipe to say what others reached; they are never a claim about polyward.
"""
