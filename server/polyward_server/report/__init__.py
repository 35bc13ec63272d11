"""The study report: one self-contained document for people who were not there.

`reading` takes the facts from the ledger, `methods` and `telling` say them in words, `plots` draws them, `writing`
makes the document of it. The same ledger gives the same bytes.
"""
