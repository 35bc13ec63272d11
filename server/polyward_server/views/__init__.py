"""What is to be seen of the ledger: frozen models, read and never written, which pages, JSON, CSV and reports share."""
