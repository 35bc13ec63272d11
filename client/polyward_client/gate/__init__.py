"""The process with a network and without images: every byte that leaves a site passes here, and only here."""
