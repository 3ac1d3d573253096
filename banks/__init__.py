"""What is kept of inverted pictures, in memory and in files: of the models, hosts and formulas it knows nothing."""
