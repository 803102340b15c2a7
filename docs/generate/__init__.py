"""Programs that write the pages of `docs` that hold measured facts."""
