"""Load models, build students, map layers, and read what layers compute."""
