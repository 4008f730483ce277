"""Language models: text goes on."""
