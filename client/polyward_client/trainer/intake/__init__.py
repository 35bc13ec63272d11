"""What lies in a hospital's folders -> manifest.csv. Read in this order: found, walk, one of the three forms (folders,
niftis, series), labels, splits, build. Nothing here changes an image, and no name of a patient is written or told.
"""
