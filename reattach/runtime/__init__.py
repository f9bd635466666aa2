"""What every process of the engine needs, whatever it does."""
